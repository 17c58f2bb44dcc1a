#!/bin/sh
# start-guard DATA ROLE_FILE TOPOLOGY SERVER [UNIT]: says whether the instance in DATA may start, written by pgstead.
# The service manager asks it before every start (hazards 1, 2, 19, 34, 55). It only looks. A standby makes no process here
# while all is well; a primary asks the other servers first, whom "peers" beside the role file lists, whether one of them
# took its place. What it refuses it says on standard error and in "start-refused" beside the role file.
set -u
data=$1 role_file=$2 topology=$3 server=$4 unit=${5-} start=${5:+systemctl start $5}
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

# --- Is another server the primary now? Whoever was replaced while it was down or cut off does not know that (hazard 55).
# Runs a program as the OS user whose certificate it is.
as_user() {
  if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"; fi
  env -i LC_ALL=C PATH="$PATH" HOME=/nonexistent "$@" </dev/null
}
# Prints "NAME SYSTEM_IDENTIFIER TIMELINE IN_HOT_STANDBY", or "NAME stopped", or "NAME recovers", or "NAME silent WHY".
ask() { # NAME CONNINFO
  if answer=$(as_user timeout 5 "$psql" -XAtqw -F ' ' -d "$2" -c IDENTIFY_SYSTEM -c 'SHOW in_hot_standby' 2>&1); then
    set -f
    # The third word is a position; a name of a database does not follow in a physical session.
    name=$1
    set -- $answer
    case ${2-} in
      '' | *[!0-9]*) printf '%s silent no answer\n' "$name" ;;
      *) printf '%s %s %s %s\n' "$name" "$1" "$2" "${4-}" ;;
    esac
  else
    # In archive recovery a primary never is (canAcceptConnections, 14 and later); it may be waiting for this very one.
    case $answer in
      *'Connection refused'*) printf '%s stopped\n' "$1" ;;
      *'not yet accepting connections'*) printf '%s recovers\n' "$1" ;;
      *)
        answer=${answer##*failed: }
        printf '%s silent %s\n' "$1" "${answer%%"
"*}" ;;
    esac
  fi
}
ask_all() {
  while read -r word rest; do
    case $word in peer) ask "${rest%% *}" "${rest#* }" & ;; esac
  done <"$peers"
  wait
}
peers=${role_file%/*}/peers
if [ "$role" = primary ] && [ -r "$peers" ]; then
  psql='' user='' names='' may_start_alone=0
  while read -r word rest; do
    case $word in
      psql) psql=$rest ;;
      user) user=$rest ;;
      start_alone) may_start_alone=1 ;;
      peer) names="$names ${rest%% *}" ;;
    esac
  done <"$peers"
  system='' timeline=0
  while IFS=: read -r key value; do
    case $key in
      'Database system identifier') system=${value##* } ;;
      "Latest checkpoint's TimeLineID") timeline=${value##* } ;;
    esac
  done <<END
$(as_user "${psql%/*}/pg_controldata" -D "$data" 2>/dev/null)
END
  # One that was promoted and crashed before its checkpoint has the history file of its timeline already.
  for history in "$data"/pg_wal/*.history; do
    history=${history##*/} history=${history%.history}
    case $history in '*' | *[!0-9A-F]*) continue ;; esac
    [ "$((0x$history))" -le "$timeline" ] || timeline=$((0x$history))
  done
  # One that refuses connections does not run, and knows nothing of the others. Where some are silent and none answers, this
  # server may have been replaced without hearing of it: it waits for the first answer, or for a word on this server itself.
  word=${role_file%/*}/start-alone
  end=$(($(date +%s) + 5))
  is_told=''
  while [ -n "$names" ]; do
    # So that one which was forgotten here means nothing later.
    if [ -n "$(find "$word" -mmin -1 2>/dev/null)" ]; then rm -f -- "$word"; break; fi
    again=1 silent=''
    answers=$(ask_all)
    while read -r name of_system at hot; do
      case $of_system in
        stopped) continue ;;
        recovers) again=0; continue ;;
        silent) silent="$silent${silent:+;} $name ($at $hot)"; continue ;;
      esac
      again=0
      [ "$of_system" = "$system" ] || continue
      what=''
      if [ "$hot" = off ]; then
        what="server \"$name\" is a primary, on timeline $at; this one's data are on timeline $timeline. Two servers would accept writes."
      elif [ "$at" -gt "$timeline" ]; then
        what="server \"$name\" is on timeline $at, and this one's data on timeline $timeline: another server was promoted meanwhile."
      fi
      [ -z "$what" ] || refuse "$what" \
        "On the operator's machine: pgstead status shows who is the primary; pgstead reseed $server lets this one follow it.
If this one is to be the primary, stop the instance of \"$name\" first, then: $start"
    done <<END
$answers
END
    [ "$again" = 1 ] && [ -n "$silent" ] || break
    if [ "$(date +%s)" -ge "$end" ]; then
      alone="nobody can be asked whether another server is the primary now:$silent"
      if [ "$may_start_alone" = 1 ]; then
        echo "start-guard of pgstead: $alone. It starts all the same (start_alone)." >&2
        break
      fi
      how="When you know that no other server was promoted, start it all the same: touch $word"
      [ -n "$unit" ] || refuse "$alone." "$how && $start"
      if [ -z "$is_told" ]; then
        is_told="start-guard of pgstead: the instance of server \"$server\" waits: $alone.
It starts when one of them answers. $how"
        printf '%s\n' "$is_told" >&2
        { printf '%s\n' "$is_told" >"$said"; } 2>/dev/null
      fi
    fi
    sleep 0.2
  done
fi
[ ! -e "$said" ] || rm -f -- "$said"
exit 0
