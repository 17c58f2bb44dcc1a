# is-standby DATA: fails unless the instance of DATA is a standby, running or not: the promotion takes its signal file away.
[ -e "$1/standby.signal" ] || { echo "it was promoted meanwhile: $1 has no standby.signal" >&2; exit 1; }
