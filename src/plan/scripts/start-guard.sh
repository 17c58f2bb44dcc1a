#!/bin/sh
# start-guard DATA ROLE_FILE TOPOLOGY SERVER [UNIT]: says whether the instance in DATA may start, written by pgstead.
# The service manager asks it before every start (hazards 1, 2, 19, 34, 55). It only looks. A standby makes no process here
# while all is well; a primary asks the other servers first, whom "peers" beside the role file lists, whether one of them
# took its place or has more than it. What it refuses it says on standard error and in "start-refused" beside the role file.
# What it needs for that and can't read or run is a reason to refuse.
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
  removed)
    refuse "it was removed from its topology: the other servers have forgotten it." \
      "If it is to be a standby again: put it into the inventory, and on the operator's machine: pgstead bootstrap." ;;
  fenced)
    refuse "it is fenced: another server is the primary, and it must not come back by itself." \
      "On the operator's machine: pgstead status shows who is the primary." ;;
  *)
    refuse "its role file $role_file says \"$role\", which is no role." \
      "On the operator's machine: pgstead bootstrap. Or, when you know what it is: echo standby >$role_file (or primary), then: $start" ;;
esac

# --- Is another server the primary now? Whoever was replaced while it was down or cut off does not know that (hazard 55).
# Nor does one that was put back to an older state by a snapshot know what it had sent.
# Runs a program as the OS user whose certificate it is.
as_user() {
  if [ "$(id -u)" = 0 ]; then set -- setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"; fi
  env -i LC_ALL=C PATH="$PATH" HOME=/nonexistent "$@" </dev/null
}
# Prints "NAME SYSTEM_IDENTIFIER TIMELINE POSITION IN_HOT_STANDBY HAS_A_LATER_TIMELINE", or "NAME silent WHY". One that
# replays its own WAL after a start may answer with a timeline that it is about to leave: so it is asked for the history of
# the next one, too. 58P01 says that it has none.
ask() { # NAME CONNINFO
  answer=$(as_user timeout 5 "$psql" -XAtqw -F ' ' -v VERBOSITY=sqlstate -d "$2" \
    -c IDENTIFY_SYSTEM -c 'SHOW in_hot_standby' -c "TIMELINE_HISTORY $((timeline + 1))" 2>&1)
  later=''
  case $answer in
    *"
"????????.history\ *) later=on ;;
    *'ERROR:  58P01'*) later=off ;;
  esac
  set -f
  name=$1 why=${answer##*failed: }
  set -- $answer
  case ${1-}${2-} in *[!0-9]*) set -- ;; esac
  case ${3-} in *[!0-9A-F/]*) set -- ;; esac
  case ${1-}.${2-}.${3-}.${4-}.$later in
    [0-9]*.[0-9]*.*/*.off.* | [0-9]*.[0-9]*.*/*.on.o*) printf '%s %s %s %s %s %s\n' "$name" "$1" "$2" "$3" "$4" "$later" ;;
    *) printf '%s silent %s\n' "$name" "${why%%"
"*}" ;;
  esac
}
ask_all() {
  while read -r key rest; do
    case $key in peer) ask "${rest%% *}" "${rest#* }" & ;; esac
  done <"$peers"
  wait
}
bytes() { echo "$((0x${1%/*} << 32 | 0x${1#*/}))"; }
# Returns the name of the segment with a byte (xlog_internal.h, XLogFileName).
segment_of() { # BYTE
  printf '%08X%08X%08X' "$timeline" "$(($1 >> 32))" "$((($1 & 0xFFFFFFFF) / segment_bytes))"
}
# Says whether the WAL in pg_wal can be read up to a position, as crash recovery would. The segments are named: pg_waldump would
# take their size from whatever the directory lists first, and a segment that was only made ready tells none.
reads() { # FROM, TO
  first=$(segment_of "$(bytes "$1")") last=$(segment_of "$(($(bytes "$2") - 1))")
  as_user "${psql%/*}/pg_waldump" --quiet --path="$data/pg_wal" --start="$1" --end="$2" "$first" "$last" >/dev/null 2>&1
}
# Says whether this server has its WAL up to a position that a standby of the same timeline has. A primary sends nothing that
# it has not written and flushed, so one that crashed has it; one that was put back to an older state has not.
has() { # POSITION
  end=$(bytes "$1")
  [ "$end" -gt "$(bytes "$checkpoint")" ] || return 0
  segment=$((end - 1 - (end - 1) % segment_bytes))
  # A record may be longer than a segment; then only what comes from the last checkpoint tells where it begins.
  reads "$(printf '%X/%X' $((segment >> 32)) $((segment & 0xFFFFFFFF)))" "$1" || reads "$redo" "$1"
}
peers=${role_file%/*}/peers word=${role_file%/*}/start-alone
if [ "$role" = primary ]; then
  psql='' user='' names='' may_start_alone=0 listed=0 all=''
  [ -r "$peers" ] || refuse "$peers can't be read, which says whom to ask whether another server is the primary now." \
    "On the operator's machine: pgstead bootstrap installs it. Then: $start"
  while read -r key rest; do
    case $key in
      psql) psql=$rest ;;
      user) user=$rest ;;
      start_alone) may_start_alone=1 ;;
      peer) names="$names ${rest%% *}" listed=$((listed + 1)) ;;
      end) all=$rest ;;
    esac
  done <"$peers"
  if [ -z "$psql" ] || [ -z "$user" ] || [ "$all" != "$listed" ]; then
    refuse "$peers is not whole, which says whom to ask whether another server is the primary now." \
      "On the operator's machine: pgstead bootstrap installs it. Then: $start"
  fi
  system='' timeline='' checkpoint='' redo='' segment_bytes=''
  control=$(as_user "${psql%/*}/pg_controldata" -D "$data" 2>&1)
  while IFS=: read -r key value; do
    case $key in
      'Database system identifier') system=${value##* } ;;
      "Latest checkpoint's TimeLineID") timeline=${value##* } ;;
      'Latest checkpoint location') checkpoint=${value##* } ;;
      "Latest checkpoint's REDO location") redo=${value##* } ;;
      'Bytes per WAL segment') segment_bytes=${value##* } ;;
    esac
  done <<END
$control
END
  for number in "$system" "$timeline" "$segment_bytes"; do
    case $number in '' | *[!0-9]*) redo='' ;; esac
  done
  case $checkpoint.$redo in
    *[!0-9A-F/.]* | *[!0-9A-F]/* | */[!0-9A-F]*) redo='' ;;
    */*.*/*) ;;
    *) redo='' ;;
  esac
  [ -n "$redo" ] || refuse "what ${psql%/*}/pg_controldata says of $data can't be read: ${control%%"
"*}" "Find out why, as user $user: ${psql%/*}/pg_controldata -D $data. Then: $start"
  # One that was promoted and crashed before its checkpoint has the history file of its timeline already.
  for history in "$data"/pg_wal/*.history; do
    history=${history##*/} history=${history%.history}
    case $history in '*' | *[!0-9A-F]*) continue ;; esac
    [ "$((0x$history))" -le "$timeline" ] || timeline=$((0x$history))
  done
  # It waits for the first answer, or for a word on this server itself. One that refuses connections, starts up, is silent or
  # is on an earlier timeline does not know whether this one was replaced: all of them may have lost their power with it.
  begun=$(date +%s)
  is_told=''
  while [ -n "$names" ]; do
    is_answered=0 silent=''
    answers=$(ask_all | sort)
    # Whoever says that another one was promoted may follow that one: it is the primary that would have to be stopped.
    promoted='the server that was promoted, which pgstead status shows,'
    while read -r name of_system at position hot later; do
      if [ "$of_system" = "$system" ] && [ "$hot" = off ]; then promoted="\"$name\""; fi
    done <<END
$answers
END
    while read -r name of_system rest; do
      case $of_system in
        '') continue ;;
        silent)
          silent="$silent${silent:+; }$name ($rest)"
          continue ;;
        "$system") ;;
        *)
          silent="$silent${silent:+; }$name (it has another database system)"
          continue ;;
      esac
      read -r at position hot later <<END_OF_ANSWER
$rest
END_OF_ANSWER
      what=''
      how="On the operator's machine: pgstead status shows who is the primary; pgstead reseed $server lets this one follow it.
If this one is to be the primary, stop the instance of $promoted first, then: touch $word; $start"
      if [ "$hot" = off ]; then
        what="server \"$name\" is a primary, on timeline $at; this one's data are on timeline $timeline. Two servers would accept writes."
      elif [ "$at" -gt "$timeline" ]; then
        what="server \"$name\" is on timeline $at, and this one's data on timeline $timeline: another server was promoted meanwhile."
      elif [ "$later" = on ]; then
        what="server \"$name\" knows timeline $((timeline + 1)), and this one's data are on timeline $timeline: another server was promoted meanwhile."
      elif [ "$at" -lt "$timeline" ]; then
        silent="$silent${silent:+; }$name (it is still on the earlier timeline $at)"
      elif has "$position"; then
        is_answered=1
      else
        what="server \"$name\", its standby, has WAL up to $position, and this one has not: it was put back to an older state, as a restored snapshot is."
        how="What was committed since then is on \"$name\". On the operator's machine: pgstead failover --to $name, then pgstead reseed $server.
If the older state is to count, stop the instances of the others first, then: touch $word; $start"
      fi
      [ -z "$what" ] || refuse "$what" "$how"
    done <<END
$answers
END
    [ "$is_answered" = 0 ] || break
    # The word counts against silence, and never against an answer. It counts once and for a minute, so that one which was
    # forgotten here means nothing later; nor does one whose time has not come.
    now=$(date +%s) doubt=''
    if [ -f "$word" ]; then
      age=$((now - $(stat -c %Y -- "$word" 2>/dev/null || echo 0)))
      if [ "$age" -lt 0 ]; then
        doubt="
$word counts for nothing: its time is in the future."
      elif [ "$age" -lt 60 ] && rm -f -- "$word"; then
        break
      fi
    fi
    # Without a service manager somebody waits in front of it.
    if [ "$now" -ge "$((begun + 5))" ]; then
      alone="nobody can be asked whether another server is the primary now:${silent:+ }$silent"
      if [ "$may_start_alone" = 1 ]; then
        echo "start-guard of pgstead: $alone. It starts all the same (start_alone)." >&2
        break
      fi
      how="When you know that no other server was promoted, start it all the same: touch $word$doubt"
      if [ -z "$unit" ] && [ "$now" -ge "$((begun + 30))" ]; then
        refuse "$alone." "When you know that no other server was promoted, start it all the same: touch $word && $start$doubt"
      fi
      if [ "$is_told" != "$alone$doubt" ]; then
        is_told=$alone$doubt
        told="start-guard of pgstead: the instance of server \"$server\" waits: $alone.
It starts when one of them answers. $how"
        printf '%s\n' "$told" >&2
        { printf '%s\n' "$told" >"$said"; } 2>/dev/null
      fi
    fi
    sleep 0.2
  done
fi
if [ -e "$word" ] || [ -e "$said" ]; then rm -f -- "$word" "$said"; fi
exit 0
