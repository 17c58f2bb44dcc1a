# Looks where settings and tablespaces of another server lead, and changes nothing. Arguments:
#   VERSION USER BIN SEARCH, then groups: path PATH, tablespace PATH, group NAME or number, program NAME, library NAME,
#   value NAME=VALUE (whether the instance would start with it: the servers' PostgreSQL need not be built alike, and locales and time
#   zones are each machine's own)
#   SEARCH is the dynamic_library_path in which a library without a directory is looked for.
# It answers with the probe's records: answer.N of the N-th group. Line 1: missing, directory, file, dangling (a link on the way leads
# nowhere) or other, and 1 or 0 for whether the instance's user may read it, may write there, and whether it is a directory that
# another user has something in; line 2: the nearest directory above, or that link; line 3: a tablespace's directory in it.
main() {
set -u
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin
cd / || exit 1
put() { printf '#%s %s\n%s\n' "$1" "${#2}" "$2"; }
unreadable() { printf '#%s ! %s\n' "$1" "$(printf '%s' "$2" | tr -s '\n\t' ' ' | cut -c 1-400)"; }
me=$(id -un)
version=$1 user=$2 bin=$3 search=$4
shift 4
# A file system that does not answer takes no other answer along.
limit=''
if command -v timeout >/dev/null; then limit='timeout -s KILL 3'; fi
is_late() { [ -n "$limit" ] && { [ "$1" -eq 137 ] || [ "$1" -eq 124 ]; }; }
as_instance() {
  if [ "$user" = "$me" ]; then $limit "$@"; elif [ "$me" = root ]; then $limit runuser -u "$user" -- "$@"; else
    echo "user $me can become neither root nor $user" >&2
    return 126
  fi
}
# What the instance's user sees counts, not what root sees: it is the user who must find it.
look='p=$1 v=$2 s=$3
if [ -d "$p" ]; then w=directory; elif [ -f "$p" ]; then w=file; elif [ -e "$p" ]; then w=other; else w=missing; fi
n=$p
while [ ! -e "$n" ]; do
  if [ -L "$n" ]; then w=dangling; break; fi
  n=${n%/*}; n=${n:-/}
done
r=0; [ -r "$n" ] && { [ ! -d "$n" ] || [ -x "$n" ]; } && r=1
m=0; [ -w "$n" ] && { [ ! -d "$n" ] || [ -x "$n" ]; } && m=1
t=
o=0
if [ "$w" = directory ] && [ ! -O "$p" ] && [ -n "$(ls -A "$p" 2>&1 | head -n 1)" ]; then o=1; fi
if [ "$w" = directory ] && [ "$s" = tablespace ]; then for one in "$p"/PG_"$v"_*; do [ -e "$one" ] && t=${one##*/}; done; fi
printf "%s %s %s %s\n%s\n%s\n" "$w" "$r" "$m" "$o" "$n" "$t"'
found() { put "answer.$number" "file $1 0 0
"; }
missing() { put "answer.$number" "missing 0 0 0
"; }
late() { unreadable "answer.$number" "it did not answer within ${1-3} seconds"; }
told() { # COMMAND that ends with 0 where it is there, with 3 where the instance's user may not use it
  "$@" >/dev/null 2>&1
  rc=$?
  if [ $rc -eq 0 ]; then found 1; elif [ $rc -eq 3 ]; then found 0; elif is_late $rc; then late; else missing; fi
}
# What a path names is run only where it is a file; a name is looked for as a shell does.
program='case $1 in */*) [ -e "$1" ] || exit 1; [ -f "$1" ] && [ -x "$1" ] || exit 3 ;; *) command -v -- "$1" ;; esac'
directories() {
  for directory in "${bin%/bin}/lib" "${bin%/bin}/lib/postgresql" "/usr/lib/postgresql/$version/lib"; do
    if [ -e "$directory/plpgsql.so" ]; then libraries=$directory; return; fi
  done
  libraries=''
}
library() { # NAME
  case $1 in
    /*) set -- "$1" ;;
    '$libdir'/*) set -- "$libraries/${1#*/}" ;;
    */*) set -- "$libraries/$1" ;;
    *)
      name=$1
      # "$libdir" is each server's own; who may not name a directory gets what is in "plugins".
      rest=$search:
      set -- "$libraries/plugins/$name"
      while [ -n "$rest" ]; do
        one=${rest%%:*} rest=${rest#*:}
        case $one in '$libdir'*) one=$libraries${one#'$libdir'} ;; esac
        set -- "$@" "$one/$name"
      done ;;
  esac
  for one in "$@"; do
    for file in "$one" "$one.so"; do
      as_instance test -f "$file" -a -r "$file" && return 0
      rc=$?
      if is_late $rc; then return $rc; fi
    done
  done
  return 1
}
accepts() { # NAME and -c NAME=VALUE …
  name=$1
  shift
  # A program starts, and reads no file system of others: on a busy machine that may take its time, all runs together this much.
  if [ -n "$limit" ]; then
    seconds=$((until - $(date +%s)))
    [ $seconds -gt 0 ] || return 124
    limit="timeout -s KILL $seconds"
  fi
  as_instance "$bin/postgres" -C "$name" "$@" --config-file=/dev/null -D / 2>&1
}
is_refused() { case $refused in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
together() { # of the groups, all values but those that are refused
  left=$# number=0 language=''
  while [ "$left" -gt 0 ]; do
    number=$((number + 1)) kind=$1 value=$2
    shift 2
    left=$((left - 2))
    if [ "$kind" != value ] || is_refused $number; then continue; fi
    # What is set behind it is answered in that language.
    case $value in lc_messages=*) language=$value ;; *) set -- "$@" -c "$value" ;; esac
  done
  [ -z "$language" ] || set -- "$@" -c "$language"
  [ $# -eq 0 ] || accepts port "$@"
}
number_of() { # NAME groups: the only value of that name
  wanted=$1 number=0 all=''
  shift
  while [ $# -gt 0 ]; do
    number=$((number + 1))
    case "$1 $2" in "value $wanted="*) all="$all $number" ;; esac
    shift 2
  done
  case ${all# } in *' '*) ;; *) printf '%s' "${all# }" ;; esac
}
# Asks about all values at once. PostgreSQL names one that it does not accept: then asks again without that one. Most often it accepts all.
settle() { # groups
  refused=' '
  while :; do
    said=$(together "$@")
    rc=$?
    if [ $rc -eq 0 ]; then verdict=accepted; return; fi
    if is_late $rc; then verdict=late; return; fi
    verdict=singly
    case $said in *'FATAL:  '*'parameter "'*) ;; *) return ;; esac
    parameter=${said#*FATAL:  } parameter=${parameter#*parameter \"}
    number=$(number_of "$(printf '%s' "${parameter%%\"*}" | tr '[:upper:]' '[:lower:]')" "$@")
    if [ -z "$number" ] || is_refused "$number"; then return; fi
    refused="$refused$number "
    eval "said_$number=\$said"
  done
}
patience=12
until=$(($(date +%s) + patience))
directories
settle "$@"
number=0
while [ $# -gt 0 ]; do
  number=$((number + 1))
  case $1 in
    path | tablespace)
      said=$(as_instance sh -c "$look" look "$2" "$version" "$1" 2>&1)
      rc=$?
      if [ $rc -eq 0 ]; then put "answer.$number" "$said"
      elif is_late $rc; then late
      else unreadable "answer.$number" "$said"; fi ;;
    group)
      # A name may have blanks, and a number need not be anybody's.
      case $2 in
        *[!0-9]*) gid=$(getent group "$2" | cut -d: -f3) ;;
        *) gid=$2 ;;
      esac
      if [ -n "$gid" ] && id -G "$user" | tr ' ' '\n' | grep -qxF -- "$gid"; then found 1
      elif getent group "$2" >/dev/null; then found 0
      else missing; fi ;;
    program) told as_instance sh -c "$program" look "$2" ;;
    library) told library "$2" ;;
    value)
      rc=0
      if is_refused $number; then
        eval "said=\$said_$number"
        rc=1
      elif [ $verdict = late ]; then rc=124
      elif [ $verdict = singly ]; then
        said=$(accepts "${2%%=*}" -c "$2")
        rc=$?
        if is_late $rc; then verdict=late; fi
      fi
      if [ $rc -eq 0 ]; then found 1
      elif is_late $rc; then late $patience
      else
        case $said in
          *FATAL:*)
            said=$(printf '%s\n' "${said#*FATAL:  }" | sed 's/^.* \(DETAIL\|HINT\):  /(/; 2,$s/\.*$/)/' | tr '\n' ' ')
            put "answer.$number" "missing 0 0 0
${said% }" ;;
          *) unreadable "answer.$number" "$said" ;;
        esac
      fi ;;
  esac
  shift 2
done
put end ok
}
main "$@" </dev/null
