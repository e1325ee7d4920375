# Completion of dgfs for bash: eval "$(dgfs completion bash)"
_dgfs() {
    local at
    mapfile -t COMPREPLY < <(dgfs __complete --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    for at in "${!COMPREPLY[@]}"; do
        printf -v "COMPREPLY[at]" '%q' "${COMPREPLY[at]}"
    done
    case "${COMPREPLY[0]-}" in
    *= | *:) compopt -o nospace ;;
    esac
}
complete -o bashdefault -o default -F _dgfs dgfs
