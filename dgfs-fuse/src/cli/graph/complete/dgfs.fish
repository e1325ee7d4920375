# Completion of dgfs for fish: dgfs completion fish | source
complete -c dgfs -a '(dgfs __complete -- (commandline -opc) (commandline -ct) 2>/dev/null)'
