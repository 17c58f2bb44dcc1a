# promote DATA PG_CTL USER: tells the standby in DATA to be the primary, and does not wait for that.
set -u
data=$1 pg_ctl=$2 user=$3
set -- env LC_ALL=C "$pg_ctl" promote --silent --no-wait --pgdata "$data"
if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"; fi
cd / && exec "$@"
