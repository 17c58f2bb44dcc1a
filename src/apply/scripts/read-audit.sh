# Prints the audit log of a server: DIRECTORY. One that was never written is an empty one.
[ ! -e "$1/audit.jsonl" ] || cat -- "$1/audit.jsonl"
