# Stands behind holds.sh and renews the lease; standard input are lines for the audit log.
# Exit 9, with the lock's age and text, where RUN does not hold it any more; what it did before is written down nevertheless.
# The lease first: a full disk takes no lines, and must not cost the lock as well.
[ "$lost" = 1 ] || touch -c -- "$directory/lock" || exit 1
cat >>"$directory/audit.jsonl" || exit 1
[ "$lost" = 0 ] || tell_lost
