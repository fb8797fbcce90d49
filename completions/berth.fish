# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_berth_global_optspecs
    string join \n h/help V/version
end

function __fish_berth_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_berth_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_berth_using_subcommand
    set -l cmd (__fish_berth_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c berth -n "__fish_berth_needs_command" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_needs_command" -s V -l version -d 'Print version'
complete -c berth -n "__fish_berth_needs_command" -f -a "check" -d 'Check the configuration file'
complete -c berth -n "__fish_berth_needs_command" -f -a "plan" -d 'Print the resources and constraints that the file describes'
complete -c berth -n "__fish_berth_needs_command" -f -a "diff" -d 'Print what apply would change in the cluster'
complete -c berth -n "__fish_berth_needs_command" -f -a "apply" -d 'Make the cluster\'s resources and constraints as the file says'
complete -c berth -n "__fish_berth_needs_command" -f -a "exec" -d 'Run a program inside a virtual server\'s cell on this node'
complete -c berth -n "__fish_berth_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c berth -n "__fish_berth_needs_command" -f -a "manual" -d 'Print a manual page'
complete -c berth -n "__fish_berth_using_subcommand check" -s f -l file -d 'The configuration file' -r -F
complete -c berth -n "__fish_berth_using_subcommand check" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand plan" -s f -l file -d 'The configuration file' -r -F
complete -c berth -n "__fish_berth_using_subcommand plan" -l format -d 'The form to print them in' -r -f -a "crm\t'Commands for crm configure'
pcs\t'A script of pcs commands'
xml\t'XML of the CIB'"
complete -c berth -n "__fish_berth_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c berth -n "__fish_berth_using_subcommand diff" -s f -l file -d 'The configuration file' -r -F
complete -c berth -n "__fish_berth_using_subcommand diff" -l cib -d 'Use a CIB in a file instead of the running cluster\'s' -r -F
complete -c berth -n "__fish_berth_using_subcommand diff" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand apply" -s f -l file -d 'The configuration file' -r -F
complete -c berth -n "__fish_berth_using_subcommand apply" -l cib -d 'Use a CIB in a file instead of the running cluster\'s' -r -F
complete -c berth -n "__fish_berth_using_subcommand apply" -l wait -d 'Wait until everything is started, at most so many seconds (120 if none are given)' -r
complete -c berth -n "__fish_berth_using_subcommand apply" -l dry-run -d 'Only print what would change'
complete -c berth -n "__fish_berth_using_subcommand apply" -l without-fencing -d 'Apply to a cluster that can\'t fence its nodes: two nodes may then write to one file system'
complete -c berth -n "__fish_berth_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c berth -n "__fish_berth_using_subcommand exec" -l privileged -d 'With root\'s full rights'
complete -c berth -n "__fish_berth_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c berth -n "__fish_berth_using_subcommand completions" -s h -l help -d 'Print help'
complete -c berth -n "__fish_berth_using_subcommand manual" -s h -l help -d 'Print help (see more with \'--help\')'
