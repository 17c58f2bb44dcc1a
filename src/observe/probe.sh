# The compound probe: one execution per server and phase, which looks at everything and changes nothing.
# It runs as root where the login allows that. Its arguments are words in groups:
#   version N, port N, layout KIND BIN DATA CONFIG UNIT SOCKET USER OWN (several; the first that is there counts),
#   own|config|data|secret NAME (a file to report, relative to that directory; of "secret" only owner, mode and hash),
#   drop-in PATH (another one; several, of which only that of the unit counts),
#   peer NAME ADDRESS PORT, dial NAME ADDRESS PORT, size (count the bytes of the data directory),
#   pooler PORT SOCKET USER (what PgBouncer's console says to the user that it runs as; manual, "Admin console"),
#   visited DATABASE (what roles of applications may do in it that are not its owner),
#   beside-size (count those of the directories beside it), patience N (of a dial, in seconds),
#   second-look (first of all; nothing but dials and "disk PATH": what waits for others, or follows from the first look)
#   readiness (what a preflight wants besides), place PATH (a directory that the instance will use; with readiness alone)
# It answers with records "#NAME LENGTH", a line feed, LENGTH bytes, a line feed. LENGTH "-" means: looked, not there;
# "!" means: could not look, and the rest of the line says why. "#ONE+OTHER 3+5" are two, of which the bytes follow each other.
# A name is made of our own words and numbers alone. What the server says, paths among it, stands in the bytes: only those are
# counted, and a path may hold a line feed and whole records behind it.
# The whole body is a function, so that no command in it can swallow the rest of the script from standard input.
main() {
set -u
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
cd / || exit 1

lf='
'
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
absent() { printf '#%s -\n' "$1"; }
# Reads the first line of a file, and starts no process for it.
first_line() { # PATH
  line=''
  { IFS= read -r line <"$1" || :; } 2>/dev/null
}
says() { first_line "$1"; [ "$line" = "$2" ]; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }

second_look=0
if [ "${1:-}" = second-look ]; then second_look=1; shift; fi
if [ "$second_look" = 0 ]; then put clock "$(date +%s%N)"; fi
# Whoever began this may have asked already (remote/script.rs).
me=${pgstead_me:-$(id -un)}
if [ "$second_look" = 0 ]; then
login=${SUDO_USER:-$me}
put user "$me"
put login "$login"
if [ -n "${pgstead_sudo:-}" ]; then put sudo "$pgstead_sudo"; fi
put os_name "$(. /etc/os-release 2>/dev/null; printf '%s' "${PRETTY_NAME:-unknown}")"
both=$(uname -nm)
put kernel "${both##* } ${both%% *}"
# A file that is empty, or says so, holds none yet (machine-id(5)): images of containers and of virtual machines have such.
first_line /etc/machine-id
case $line in '' | uninitialized) absent machine_id ;; *) put machine_id "$line" ;; esac
if libc=$(getconf GNU_LIBC_VERSION 2>/dev/null); then put libc "$libc"; else absent libc; fi
if [ -d /run/systemd/system ]; then systemd=1; else systemd=0; fi
put systemd "$systemd"
# "NUMBER: DEVICE FAMILY ADDRESS/BITS …"
addresses=''
while read -r _ _ _ address _; do addresses=$addresses${address%%/*}$lf; done <<END
$(ip -o addr show 2>/dev/null)
END
put addresses "$addresses"
fi

# --- Arguments. Those that need the layout wait in "later".
version='' port='' kind='' own='' later=0 patience=5
want_size=0
want_beside_size=0
want_readiness=0
files='' peers='' others='' pooler='' visited=''
while [ $# -gt 0 ]; do
  case $1 in
    version) version=$2; shift 2 ;;
    port) port=$2; shift 2 ;;
    size) want_size=1; shift ;;
    beside-size) want_beside_size=1; shift ;;
    readiness) want_readiness=1; shift ;;
    patience) patience=$2; shift 2 ;;
    visited) visited=$visited$2$lf; shift 2 ;;
    pooler) pooler=$2 pooler_socket=$3 pooler_user=$4; shift 4 ;;
    layout)
      if [ -z "$kind" ] && [ -x "$3/postgres" ]; then
        kind=$2 bin=$3 data=$4 config=$5 unit=$6 socket=$7 user=$8 own=$9
      fi
      shift 9 ;;
    *) break ;;
  esac
done

if [ "$second_look" = 0 ]; then
for directory in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
  [ -x "$directory/postgres" ] && others="$others$directory
"
done
put installations "$others"
fi

peer_facts() { # NAME ADDRESS
  # An address is what it is, without asking anybody.
  resolved=''
  case $2 in *[!0-9.]* | *.*.*.*.*) ;; *.*.*.*) resolved=$2 ;; esac
  [ -n "$resolved" ] || resolved=$(getent ahosts "$2" 2>/dev/null | awk '{ print $1 }' | sort -u)
  source='' routes=''
  for ip in $resolved; do
    # "IP via GATEWAY dev NAME src SOURCE …", or without "via" where the address is on a network of this server's own.
    route=$(ip -o route get "$ip" 2>/dev/null) || continue
    case $route in *' src '*) ;; *) continue ;; esac
    from=${route#* src }
    from=${from%% *}
    case $route in *' via '*) via=${route#* via }; via=${via#inet6 }; via=${via%% *} ;; *) via=- ;; esac
    routes="$routes$ip $via $from
"
    source=${source:-$from}
  done
  put "peer.$1" "$source
$resolved"
  put "routes.$1" "$routes"
}

scratch=$(mktemp -d) || scratch=''
trap '[ -n "$scratch" ] && rm -f "$scratch"/* && rmdir "$scratch"' EXIT
# Whoever looked has given up; what it waits for here may never come.
trap 'exit 143' TERM HUP
# @@READINESS@@
if [ -z "$kind" ]; then
  absent layout
  if [ "$want_readiness" = 1 ]; then readiness_host; fi
  while [ $# -gt 0 ]; do
    case $1 in
      peer) peer_facts "$2" "$3"; shift 4 ;;
      dial) shift 4 ;;
      *) shift 2 ;;
    esac
  done
  put clock_end "$(date +%s%N)"
  put end ok
  return 0
fi

# A plain instance belongs to whoever owns its data directory; one that is yet to be made to "postgres" where someone here
# can become that user, and to the login user otherwise.
if [ -z "$user" ]; then
  if [ -e "$data/PG_VERSION" ]; then user=$(stat -L -c %U "$data"); elif [ "$me" = root ]; then user=postgres; else user=$me; fi
fi
put layout "$kind"
put instance_user "$user"
if group=$(id -g "$user" 2>/dev/null); then put os_user 1; else put os_user 0; fi
# The rules of sudo may be for root alone, or for the instance's user alone; commands need both.
if [ "$second_look" = 0 ] && [ "$login" != root ] && [ "$login" != "$user" ] && [ -n "$group" ] && [ "$kind:$me" != "plain:$login" ]; then
  # It is tried as the login does it later on.
  as_login() { if [ "$me" = root ]; then setpriv --reuid "$login" --regid "$(id -g "$login")" --init-groups -- "$@"; else "$@"; fi; }
  if as_login sudo -n -u "$user" -- true >/dev/null 2>&1 </dev/null; then put sudo_instance 1; else put sudo_instance 0; fi
fi
# Reads what the instance's user may have put a link in place of, and runs programs that may be the user's own, as that user: what
# root alone may read is not told this way (docs/adr/0022-whose-hands.md).
reads() { # COMMAND…
  if [ "$me" = root ] && [ -n "$group" ] && [ "$user" != root ]; then
    setpriv --reuid "$user" --regid "$group" --init-groups -- "$@"
  else
    "$@"
  fi
}
if [ "$second_look" = 0 ]; then
  libraries=''
  for directory in "${bin%/bin}/lib" "${bin%/bin}/lib/postgresql" "/usr/lib/postgresql/$version/lib"; do
    if [ -e "$directory/plpgsql.so" ]; then libraries=$directory; break; fi
  done
  names=''
  for library in "$libraries"/*.so; do
    library=${library##*/}
    names="$names${library%.so}
"
  done
  if [ -n "$libraries" ]; then put libraries "$names"; else absent libraries; fi
fi
as_user() { # USER COMMAND…
  as=$1
  shift
  # Not runuser, which asks PAM each time.
  if [ "$as" = "$me" ]; then "$@"
  elif [ "$me" = root ] && [ "$as" = "$user" ] && [ -n "$group" ]; then setpriv --reuid "$as" --regid "$group" --init-groups -- "$@"
  elif [ "$me" = root ]; then setpriv --reuid "$as" --regid "$(id -g -- "$as")" --init-groups -- "$@"
  else
    echo "user $me can become neither root nor $as" >&2
    return 126
  fi
}
as_instance() { as_user "$user" "$@"; }
# @@SESSION@@
pgstead_session "$version"
# A postmaster that stands still does not answer, while its kernel goes on accepting connections to it.
PGCONNECT_TIMEOUT=10
export PGCONNECT_TIMEOUT
# A running instance says itself where its socket is (manual, "Database File Layout": postmaster.pid, line 5), and the
# configuration of one that does not run says where it will be.
if [ ! -S "$socket/.s.PGSQL.$port" ] && [ -e "$data/PG_VERSION" ]; then
  if [ -e "$data/postmaster.pid" ]; then
    its=$(reads sed -n 5p "$data/postmaster.pid" 2>/dev/null)
  else
    its=$(as_instance "$bin/postgres" -C unix_socket_directories -D "${config:-$data}" 2>/dev/null)
    its=${its%%,*}
  fi
  case $its in /*) socket=$its ;; esac
fi
put socket "$socket"
# Whether a path is visible at all: a parent that may not be entered would make everything look absent.
visible() {
  if [ -e "$1" ] || [ -L "$1" ]; then return 0; fi
  above "$1"
  if [ -e "$parent" ]; then [ -x "$parent" ] && [ -r "$parent" ]; else visible "$parent"; fi
}
# Sets "parent" as dirname prints it, without a process: this is asked for every file that is not there.
above() { case $1 in */*) parent=${1%/*}; parent=${parent:-/} ;; *) parent=. ;; esac; }

# --- The links between servers, in the background: each dial is a fresh TLS connection (L15).
dial() { # NAME ADDRESS PORT
  PGHOST=$2 PGPORT=$3 PGUSER=replicator PGSSLMODE=verify-full PGSSLROOTCERT=$own/ca.crt PGSSLCERT=$own/tls/client.crt \
    PGSSLKEY=$own/tls/client.key PGPASSFILE=$own/passfile PGGSSENCMODE=disable PGCONNECT_TIMEOUT=$patience PGAPPNAME=pgstead_dial \
    as_instance "$bin/psql" -XAtqw -d 'replication=true' -c IDENTIFY_SYSTEM >"$scratch/dial.$1" 2>&1
  echo $? >"$scratch/status.$1"
}
dials=''
rest=''
count=$#
index=0
while [ "$index" -lt "$count" ]; do
  case $1 in
    dial) dials="$dials $2"; dial "$2" "$3" "$4" & shift 4; index=$((index + 4)) ;;
    peer) set -- "$@" "$1" "$2" "$3" "$4"; shift 4; index=$((index + 4)) ;;
    *) set -- "$@" "$1" "$2"; shift 2; index=$((index + 2)) ;;
  esac
done

# How much room is where each path is, or would be: df's line, and behind it the path, whatever that holds. One df looks at all,
# and each has its own where that fails.
disks() { # PATH…
  if measured=$(measure "$@"); then measured=${measured#*"$lf"}$lf; else measured=''; fi
  disks=0
  for path; do
    disks=$((disks + 1))
    if [ -n "$measured" ]; then
      next_line measured
    elif line=$(measure "$path"); then
      line=${line##*"$lf"}
    else
      line="! $(printf '%s' "$line" | tr -s '\n\t' ' ')"
    fi
    put "disk.$disks" "$line
$path"
    [ -e "$path" ] || put "absent.$disks" "$path"
  done
}
measure() { # PATH…
  for path; do
    while [ ! -e "$path" ]; do above "$path"; path=$parent; done
    set -- "$@" "$path"
    shift
  done
  df -B1 --output=target,avail,size,iavail -- "$@" 2>&1
}
# Takes the first line off a variable, and starts no process for it.
next_line() { # VARIABLE
  eval "line=\${$1%%\"\$lf\"*} $1=\${$1#*\"\$lf\"}"
}
put_dials() {
  for name in $dials; do
    if says "$scratch/status.$name" 0; then put "dial.$name" "$(cat "$scratch/dial.$name")"; else unreadable "dial.$name" "$(cat "$scratch/dial.$name" 2>/dev/null)"; fi
  done
}
if [ "$second_look" = 1 ]; then
  count=$#
  while [ "$count" -gt 0 ]; do
    if [ "$1" = disk ]; then set -- "$@" "$2"; fi
    shift 2
    count=$((count - 2))
  done
  [ $# = 0 ] || disks "$@"
  wait
  put_dials
  put end ok
  return 0
fi

# --- The instance itself, in the background too.
if [ -S "$socket/.s.PGSQL.$port" ]; then
  asked=1
  ask_instance() { # USER DATABASE
    PGOPTIONS=$pgstead_triggers as_instance "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -v program="$bin/psql" -h "$socket" -p "$port" -U "$1" -d "$2" >"$scratch/sql" 2>"$scratch/sql.err" <<'SQL'
@@INSTANCE_SQL@@
SQL
    echo $? >"$scratch/sql.status"
  }
  # The name goes by the environment, where it can be no conninfo. One that is not there yet has no answer.
  ask_visited() {
    printf '%s' "$visited" | while IFS= read -r database; do
      PGDATABASE=$database PGOPTIONS=$PGOPTIONS$pgstead_superuser as_instance "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U postgres 2>/dev/null <<'SQL'
@@VISITED_SQL@@
SQL
    done >"$scratch/visited"
  }
  # One that starts or stops turns everybody away, in its own language; pg_isready goes by the code of that (its status is 1).
  # One that has come up in between is asked again. One that is up and lets nobody in like this (status 2: no session came
  # about) may still say what it is to another superuser's name, or in another database; what was in the way is kept.
  { ask_instance postgres postgres
    if ! says "$scratch/sql.status" 0 && ! grep -q 'timeout expired' "$scratch/sql.err"; then
      reads "$bin/pg_isready" -q -t 2 -h "$socket" -p "$port"
      ready=$?
      # One of an earlier version is looked at, too, and says so.
      if grep -q event_triggers "$scratch/sql.err"; then pgstead_session; fi
      if [ "$ready" = 0 ]; then ask_instance postgres postgres; fi
      echo "$ready" >"$scratch/sql.ready"
      if [ "$ready" = 0 ] && says "$scratch/sql.status" 2; then
        mv "$scratch/sql.err" "$scratch/sql.why"
        for way in postgres:template1 "$user:postgres" "$user:template1"; do
          [ "$way" != postgres:postgres ] || continue
          ask_instance "${way%:*}" "${way##*:}"
          if says "$scratch/sql.status" 0; then break; fi
        done
        says "$scratch/sql.status" 0 || mv "$scratch/sql.why" "$scratch/sql.err"
      fi
    fi
    if [ -n "$visited" ] && says "$scratch/sql.status" 0; then ask_visited; fi; } &
  if [ "$want_readiness" = 1 ]; then readiness_sql & fi
else
  asked=0
fi

# --- PgBouncer, likewise. Its console knows the simple protocol alone, and psql speaks it.
if [ -n "$pooler" ] && [ -S "$pooler_socket/.s.PGSQL.$pooler" ]; then
  asked_pooler=1
  # Its console takes no options.
  { PGOPTIONS='' PGCONNECT_TIMEOUT=$patience as_user "$pooler_user" "$bin/psql" -XAqw -F "$(printf '\t')" -P footer=off -h "$pooler_socket" \
      -p "$pooler" -U pgbouncer -d pgbouncer -c 'SHOW DATABASES' >"$scratch/pooler" 2>"$scratch/pooler.err"
    echo $? >"$scratch/pooler.status"; } &
else
  asked_pooler=0
fi

if [ "$want_readiness" = 1 ]; then readiness_host; readiness_installation; fi

# What is read as the instance's user, in one go: the word of start.conf, then records for the reader of "as_owner", who believes
# no other of them than these. They are the user's word, as its files are.
as_owner='
put() { printf "#%s %s\n%s\n" "$1" "${#2}" "$2"; }
bin=$1 data=$2 config=$3
boot=
if [ -n "$config" ] && [ -r "$config/start.conf" ]; then
  while [ -z "$boot" ] && read -r word _; do boot=${word%%[!a-z]*}; done <"$config/start.conf"
fi
printf "%s\n" "$boot"
# Another program of the same package, with the same number: to start the server itself takes five times as long.
put version "$("$bin/pg_controldata" --version 2>&1)"
for name in PG_VERSION standby.signal recovery.signal backup_label pgstead.identity; do
  [ ! -s "$data/$name" ] || put "data.$name" "$(head -c 4096 -- "$data/$name" 2>/dev/null)"
done
if [ -e "$data/global/pg_control" ]; then
  if control=$("$bin/pg_controldata" -D "$data" 2>&1); then put control "$control"; else put control_error "$control"; fi
fi
put end ok
'
said=$(reads sh -c "$as_owner" sh "$bin" "$data" "$config" 2>&1)
start=${said%%"$lf"*}
case $start in *[!a-z]*) start='' ;; esac
put as_owner "${said#*"$lf"}$lf"

# Counts what is in a directory, and starts no process for it.
entries() { # DIRECTORY
  set -- "$1"/* "$1"/.[!.]* "$1"/..?*
  entries=0
  for entry; do
    if [ -e "$entry" ] || [ -L "$entry" ]; then entries=$((entries + 1)); fi
  done
}

# --- The data directory. Behind a link it is made, renamed and set aside where that leads, which is there but for the last part.
place=$data
if [ -L "$data" ] && place=$(readlink -f -- "$data") && [ -n "$place" ]; then put data_place "$place"; else place=$data; fi
if [ -d "$data" ]; then
  if [ -r "$data" ] && [ -x "$data" ]; then
    entries "$data"
    if mountpoint -q "$data"; then is_mount=1; else is_mount=0; fi
    put data "$entries $(stat -c '%U %a' "$data") $is_mount"
    names=''
    for name in PG_VERSION standby.signal recovery.signal backup_label pgstead.identity global/pg_control; do
      [ ! -e "$data/$name" ] || names="$names$name "
    done
    put data_files "$names"
    newest=''
    for history in "$data"/pg_wal/*.history; do
      history=${history##*/} history=${history%.history}
      case $history in '*' | *[!0-9A-F]*) ;; *) newest=$history ;; esac
    done
    [ -z "$newest" ] || put newest_history "$newest"
    spaces=''
    for path in "$data"/pg_tblspc/*; do
      [ -L "$path" ] && path=$(readlink "$path") || continue
      # PostgreSQL makes none with a line feed in it.
      case $path in *"$lf"*) ;; *) spaces=$spaces$path$lf ;; esac
    done
    [ -z "$spaces" ] || put data.tablespaces "$spaces"
    if [ "$want_size" = 1 ]; then put data_bytes "$(du -sb "$data" 2>/dev/null | cut -f 1)"; fi
  else
    unreadable data "user $me may not list $data"
  fi
elif [ -L "$data" ] && [ ! -e "$data" ] && [ "$place" != "$data" ]; then
  absent data
elif [ -e "$data" ] || [ -L "$data" ]; then
  unreadable data "$data is not a directory"
elif visible "$data"; then
  absent data
else
  unreadable data "user $me may not look into $(dirname "$data")"
fi
# @@BESIDE@@
all_disks() {
  set -- "$data" "$own"
  if [ -L "$data/pg_wal" ]; then set -- "$@" "$data/pg_wal"; fi
  for path in "$data"/pg_tblspc/*; do
    [ -L "$path" ] && set -- "$@" "$(readlink "$path")"
  done
  disks "$@"
}
all_disks

# --- Who listens on the port. An instance listens there before its socket is there, and its file outlives both.
postmaster_is_there() {
  { read -r postmaster <"$data/postmaster.pid"; } 2>/dev/null || return 1
  case $postmaster in '' | *[!0-9]*) return 1 ;; esac
  [ "/proc/$postmaster/cwd" -ef "$data" ]
}
if postmaster_is_there; then was_there=1; else was_there=0; fi
if command -v ss >/dev/null 2>&1; then
  put listener "$(ss -Hltnp "sport = :$port" 2>/dev/null)"
else
  put listener "$(awk -v p="$(printf '%04X' "$port")" '$4 == "0A" && $2 ~ (":" p "$") { print "LISTEN 0 0 *:" p }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)"
fi

# --- The service.
if [ -n "$unit" ] && [ "$systemd" = 1 ]; then
  # Debian's instances start with the service of all. What is asked last says whether it starts at boot.
  all=''
  if [ "$kind" = debian ]; then all=postgresql.service start=${start:-auto}; else start=''; fi
  shown=$(systemctl show -p ActiveState -p ExecStartPre -p LoadState -p UnitFileState "$unit" $all 2>/dev/null)
  # These words "systemctl is-enabled" answers with success (systemctl(1)).
  word=${shown##*UnitFileState=}
  case ${word%%"$lf"*} in enabled | enabled-runtime | static | alias | indirect | generated) enabled=1 ;; *) enabled=0 ;; esac
  boot=$enabled
  if [ "$kind" = debian ]; then
    case $word in masked*) start="$start all-masked" ;; esac
    case $start in auto | 'auto all-masked') ;; *) boot=0 ;; esac
  fi
  shown=${shown%%"$lf$lf"*}
  put service "$enabled $boot
Start=$start
$shown"
else
  absent service
fi

# --- Detached jobs: the record, and whether a process of the job still holds its lock.
for path in "$own"/jobs/*/record; do
  if [ -e "$path" ]; then
    path=${path%/record}
    case ${path##*/} in *[!a-z0-9-]*) continue ;; esac
    if flock -n -s "$path/lock" true 2>/dev/null; then alive=0; else alive=1; fi
    first_line "$path/status"
    put "job.${path##*/}" "$alive $line
$(cat "$path/record" 2>/dev/null)"
  fi
done

# --- Files that pgstead may own, its lock and its generation; then the peers.
report() { # LABEL PATH WITH_CONTENT, for a file that is there
  if [ -L "$2" ]; then put "link.$1" 1; fi
  bytes=$(reads stat -L -c %s -- "$2" 2>/dev/null)
  if [ "$3" = 1 ] && [ "${bytes:-0}" -gt "$file_max" ]; then
    put "file.$1" "$2
it has $bytes bytes, more than the $file_max that are read"
    return
  fi
  if hash=$(reads sha256sum -- "$2" 2>/dev/null); then
    hash=${hash#\\}
    put "file.$1" "$2
$(stat -L -c '%U:%G %a' "$2") ${hash%% *}"
    if [ "$3" = 1 ]; then
      # The dot keeps trailing line feeds, which a command substitution would drop.
      text=$(reads cat "$2"; printf .)
      put "content.$1" "${text%.}"
    fi
  else
    unreadable "file.$1" "$2
user $user may not read it"
  fi
}
# No file of these is a thousandth of that.
file_max=1048576
# Sorts a path: what is there is looked at together with the others; the rest is said at once.
consider() { # LABEL PATH WITH_CONTENT
  if [ -f "$2" ]; then
    found=$2 wanted=$wanted$1\ $3$lf
  elif visible "$2"; then
    put "nofile.$1" "$2"
  else
    unreadable "file.$1" "$2
user $me may not look into $(dirname "$2")"
  fi
}
# Reports all files with a handful of processes, not three for each. What does not fit together is looked at one by one: a file that
# somebody replaced meanwhile, that may not be read, or with a byte in it that no shell can hold.
report_together() { # PATH…
  facts=$(stat -L -c '%s %U:%G %a' "$@" 2>/dev/null) || return 1
  facts=$facts$lf sized=$facts left=$wanted flags='' names='' sizes='' total=0
  for path; do
    next_line left
    label=${line% *} with_content=${line#* } flags=$flags${line#* }
    next_line sized
    size=${line%% *}
    if [ "$with_content" = 1 ]; then
      if [ "$size" -gt "$file_max" ]; then return 1; fi
      names=$names+content.$label sizes=$sizes+$size total=$((total + size))
    fi
  done
  # The dot keeps trailing line feeds, which a command substitution would drop.
  contents=$(reads sh -c "$hashes_and_contents" sh "$flags" "$@" 2>/dev/null; printf .)
  next_line contents
  [ "$line" = hashes ] || return 1
  left=$wanted records=''
  for path; do
    next_line left
    label=${line% *}
    next_line facts
    owner=${line#* }
    next_line contents
    hash=${line%% *}
    record="$path
$owner ${hash#\\}"
    records="$records#file.$label ${#record}$lf$record$lf"
    if [ -L "$path" ]; then records="$records#link.$label 1${lf}1$lf"; fi
  done
  contents=${contents%.}
  [ "${#contents}" = "$total" ] || return 1
  printf '%s' "$records"
  if [ -n "$names" ]; then printf '#%s %s\n%s\n' "${names#+}" "${sizes#+}" "$contents"; fi
}
# FLAGS PATH…: the hash of each, and then what those hold that have a flag of 1.
hashes_and_contents='
flags=$1
shift
hashes=$(sha256sum "$@") || exit
printf "hashes\n%s\n" "$hashes"
for path; do
  case $flags in 1*) set -- "$@" "$path" ;; esac
  flags=${flags#?}
  shift
done
[ $# = 0 ] || exec cat "$@"
'
number=0 wanted=''
# What is found waits behind the last argument.
count=$#
while [ "$count" -gt 0 ]; do
  number=$((number + 1)) words=2 found=''
  case $1 in
    own) consider "$number" "$own/$2" 1 ;;
    config) consider "$number" "${config:-$data}/$2" 1 ;;
    drop-in) case $2 in */"${unit%.service}".service.d/*) consider "$number" "$2" 1 ;; esac ;;
    secret) consider "$number" "$own/$2" 0 ;;
    place) place_facts "$number" "$2" ;;
    peer) peer_facts "$2" "$3"; words=4 ;;
  esac
  shift "$words"
  count=$((count - words))
  if [ -n "$found" ]; then set -- "$@" "$found"; fi
done
if [ $# -gt 0 ] && ! report_together "$@"; then
  for path in "$@"; do
    next_line wanted
    report "${line% *}" "$path" "${line#* }"
  done
fi
# The lock may be given back while it is looked at. Its age is by this clock, as its last renewal is (hazard 15).
if ! [ -e "$own/lock" ]; then
  absent lock
elif held=$(reads head -c 65536 -- "$own/lock" 2>&1); then
  put lock "$held"
  if renewed=$(stat -c %Y "$own/lock" 2>/dev/null); then put lock_age "$(($(date +%s) - renewed))"; fi
elif [ -e "$own/lock" ]; then put lock "$held"; else absent lock; fi
if [ -e "$own/generation" ]; then first_line "$own/generation"; put generation "$line"; else absent generation; fi

wait
no_instance() {
  # What begins or ends while it is looked at is neither there nor gone.
  if [ "$was_there" = 1 ] || postmaster_is_there; then
    put starts_or_stops 1
    unreadable instance "process $postmaster works in $data and does not answer at $socket/.s.PGSQL.$port"
  else
    absent instance
  fi
}
if [ "$asked" = 1 ]; then
  if says "$scratch/sql.status" 0; then
    put instance "$(cat "$scratch/sql")"
    if [ -n "$visited" ]; then put visited "$(cat "$scratch/visited")"; fi
    if [ -e "$scratch/sql.why" ]; then put asked_otherwise "$(cat "$scratch/sql.why")"; fi
  else
    said=$(cat "$scratch/sql.err" 2>/dev/null)
    # A postmaster that was killed leaves its socket behind; the kernel refuses what nobody listens to.
    case $said in
      *'Connection refused'*) no_instance ;;
      *)
        unreadable instance "$said"
        # It lets everybody in, or sends away with words of its own: whoever does either runs.
        case $(cat "$scratch/sql.ready" 2>/dev/null):$said in 0:* | *'could not fork new process'*) put answers 1 ;; esac
        if says "$scratch/sql.ready" 1 || { [ "$was_there" = 1 ] && ! postmaster_is_there; }; then
          put starts_or_stops 1
        fi
        ;;
    esac
  fi
else
  no_instance
fi
if [ "$asked_pooler" = 0 ]; then
  absent pooler
elif says "$scratch/pooler.status" 0; then
  put pooler "$(cat "$scratch/pooler")"
else
  said=$(cat "$scratch/pooler.err" 2>/dev/null)
  case $said in *'Connection refused'*) absent pooler ;; *) unreadable pooler "$said" ;; esac
fi
put_dials
if [ "$want_readiness" = 1 ]; then readiness_answer; fi
put clock_end "$(date +%s%N)"
put end ok
}
main "$@" </dev/null
