#!/bin/sh
# start-guard DATA ROLE_FILE TOPOLOGY SERVER [UNIT]: says whether the instance in DATA may start, written by pgstead.
# The service manager asks it before every start (hazards 1, 2, 19, 34, 55). It only looks, waits for nothing, and makes no
# process while all is well. What it refuses it says on standard error and in "start-refused" beside the role file.
set -u
data=$1 role_file=$2 topology=$3 server=$4 start=${5:+systemctl start $5}
start=${start:-start it as you usually do}
said=${role_file%/*}/start-refused

refuse() { # WHAT IS WRONG, WHAT TO DO
  text="start-guard of pgstead: the instance of server \"$server\" was not started: $1
$2"
  printf '%s\n' "$text" >&2
  # Whoever waits for the start reads it here; where it can't be written it was said all the same.
  { printf '%s\n' "$text" >"$said"; } 2>/dev/null
  exit 1
}
owner() { stat -L -c %U -- "$data" 2>/dev/null || echo postgres; }

# --- Whose data directory is it, and is it complete?
[ -d "$data" ] || refuse "its data directory $data is not there." \
  "Is its disk mounted? Look: findmnt --target $data; mount it, then: $start"
mark=$data/pgstead.identity
if [ ! -e "$mark" ]; then
  [ -e "$data/PG_VERSION" ] || refuse "$data holds no data." \
    "Is its disk mounted? Look: findmnt --target $data; mount it, then: $start"
  refuse "$data has no mark (pgstead.identity), so nobody knows that it is complete and whose it is." \
    "A copy that was interrupted or moved here by hand looks like this. Do not start it past this guard. Move it away, then on the operator's machine: pgstead plan"
fi
of_topology='' of_server=''
{ IFS= read -r of_topology; IFS= read -r of_server; } <"$mark" || of_server=''
if [ "$of_topology" != "topology $topology" ] || [ "$of_server" != "server $server" ]; then
  refuse "the mark in $data says \"$of_topology, $of_server\", and not \"topology $topology, server $server\"." \
    "It is the data of another server, or a copy that is not finished. Do not start it past this guard. Move it away, then on the operator's machine: pgstead plan"
fi

# --- Is it what the role file says?
[ -e "$role_file" ] || refuse "its role file $role_file is not there." \
  "On the operator's machine: pgstead bootstrap. Or, when you know what it is: echo standby >$role_file (or primary), then: $start"
role=''
IFS= read -r role <"$role_file" || :
# What is said of both signal files below: in a standby, standby.signal wins over recovery.signal.
case $role in
  standby)
    [ -e "$data/standby.signal" ] || refuse "it is a standby and has no standby.signal; it would start as a second primary." \
      "If the file was lost: install -o $(owner) -m 600 /dev/null $data/standby.signal, then: $start
If it was promoted and is to be the primary, and no other primary runs: echo primary >$role_file, then: $start" ;;
  primary)
    for signal in standby.signal recovery.signal; do
      [ ! -e "$data/$signal" ] || refuse "it is the primary and has a $signal; it would not start as the primary." \
        "If it is to be the primary, and no other primary runs: mv $data/$signal $data/$signal.old, then: $start
If it is to be a standby: echo standby >$role_file, then: $start"
    done ;;
  demoted)
    refuse "it was the primary, and was about to hand over to another server." \
      "On the operator's machine: pgstead status; then finish that with pgstead switchover --to SERVER, or take it back with pgstead switchover --abort." ;;
  fenced)
    refuse "it is fenced: another server is the primary, and it must not come back by itself." \
      "On the operator's machine: pgstead status shows who is the primary." ;;
  *)
    refuse "its role file $role_file says \"$role\", which is no role." \
      "On the operator's machine: pgstead bootstrap. Or, when you know what it is: echo standby >$role_file (or primary), then: $start" ;;
esac
[ ! -e "$said" ] || rm -f -- "$said"
exit 0
