# Renews the lease of a run on one server: DIRECTORY RUN (as in the JSON text); standard input are lines for the audit log.
# Exit 9, with the lock's text, where RUN does not hold the lock any more; what it did before is written down nevertheless.
set -u
umask 022
exec 9<"$1"
flock -w 20 9 || { echo "the lock in $1 could not be looked at: somebody else does so for 20 s" >&2; exit 1; }
held='' lost=0
[ ! -e "$1/lock" ] || IFS= read -r held <"$1/lock"
# The lease first: a full disk takes no lines, and must not cost the lock as well.
case $held in *"$2"*) touch -c -- "$1/lock" || exit 1 ;; *) lost=1 ;; esac
cat >>"$1/audit.jsonl" || exit 1
[ "$lost" = 0 ] || { printf '%s\n' "$held"; exit 9; }
