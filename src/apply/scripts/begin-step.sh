# Stands behind holds.sh and before the commands of a step, in the same execution: LINE...
# Exit 9, with the lock's age and text, where RUN does not hold it any more (hazard 4). Else the lease is renewed and the lines go
# into the audit log, the step's beginning among them.
[ "$lost" = 0 ] || tell_lost
touch -c -- "$directory/lock" || exit 1
[ $# = 0 ] || printf '%s\n' "$@" >>"$directory/audit.jsonl"
