# Runs the words behind $1 in this process, the leader of a group of its own; the group's id stays in file $1.
echo "$$" >"$1"
shift
exec "$@"
