# Stands behind holds.sh and runs one command: PROGRAM ARGUMENT... Nobody can take the lock over before that has ended.
# Exit 9, with the lock's age and text, where RUN does not hold it any more; then the command does not run.
[ "$lost" = 0 ] || tell_lost
touch -c -- "$directory/lock" || exit 1
exec "$@"
