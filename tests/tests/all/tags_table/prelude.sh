# is FILE TAG…: the file carries these tags and no others.
is() {
  file=$1
  shift
  want=$(for tag in "$@"; do printf '%s\n' "$tag"; done | sort)
  have=$(getfattr --only-values -n user.xdg.tags "$file" 2>/dev/null | tr , '\n' | sort)
  [ "$want" = "$have" ] || { echo "$file carries: $have" >&2; return 1; }
}
id() { getfattr --only-values -n user.dgfs.id "$1"; }
