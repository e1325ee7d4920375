#compdef dgfs
# Completion of dgfs for zsh: eval "$(dgfs completion zsh)", or as _dgfs in a directory of $fpath
_dgfs() {
    local -a found
    found=("${(@f)$(dgfs __complete -- "${(@)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -z ${found[1]-} ]]; then
        _files
        return
    fi
    compadd -S '' -- "${(@M)found:#*[=:]}"
    compadd -- "${(@)found:#*[=:]}"
}
if [[ ${funcstack[1]-} == _dgfs ]]; then
    _dgfs "$@"
else
    compdef _dgfs dgfs
fi
