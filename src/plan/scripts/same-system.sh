# Fails where the copy in SEED $2 is not of the database system with the identifier $3; $1 is pg_controldata.
set -u
export LC_ALL=C
found=$("$1" -D "$2" | sed -n 's/^Database system identifier: *//p')
[ "$found" = "$3" ] || {
  echo "$2 is a copy of the database system ${found:-unknown}, and the primary's is $3; it is left as it is" >&2
  exit 1
}
