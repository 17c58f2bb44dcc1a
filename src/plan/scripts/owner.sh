# Who acts where (docs/adr/0022-whose-hands.md): root acts in places that root alone can change; everywhere else what is done is
# done as $user, the instance's OS user. A link that this one plants then leads only to what it could change itself. A script
# that this stands before sets "user". Nothing changes where the script does not run as root: the login's own hands are used.
set -u
am_root=0
[ "$(id -u)" != 0 ] || am_root=1
as_user() { # COMMAND…
  if [ "$am_root" = 1 ] && [ "$user" != root ]; then
    # Not runuser, which asks PAM each time.
    setpriv --reuid "$user" --regid "${group=$(id -g -- "$user")}" --init-groups -- "$@"
  else
    "$@"
  fi
}
# Whether root alone can change what a path leads to: every directory on the way, and behind every link on the way. What is not
# there yet is made by whoever may change what it is made in. A name with a line feed adds lines, and only takes trust away.
is_roots() { # DIRECTORY
  judge "$1"
  [ "$verdicts" = 1 ]
}
# The same of several: sets "verdicts" to a 0 or 1 for each. Each way begins with a line "f: DIRECTORY". Where these are not those
# that were asked for, as where a name adds such lines, there is no verdict at all.
judge() { # DIRECTORY…
  verdicts='' verdict=''
  ways=$(LC_ALL=C namei -om -- "$@" 2>/dev/null) || [ -n "$ways" ] || return 0
  while IFS= read -r row; do
    case $row in
      'f: '*)
        verdicts=$verdicts$verdict verdict=0 looked=0 bad=0
        [ "$row" = "f: ${1-}" ] || { verdicts=''; return 0; }
        shift ;;
      *) set -f; judge_row $row; set +f
        if [ "$looked$bad" = 10 ]; then verdict=1; else verdict=0; fi ;;
    esac
  done <<END
$ways
END
  [ $# = 0 ] && verdicts=$verdicts$verdict || verdicts=''
}
judge_row() { # MODE OWNER GROUP NAME…, or NAME… - what namei says of it
  case ${1-} in
    d[r-][w-]*) looked=1 ;;
    l[r-][w-]*) return ;;
    *) case "$*" in *' - No such file or directory') ;; *) bad=1 ;; esac; return ;;
  esac
  [ "${2-}" = root ] || bad=1
  case $1 in ????????w*) bad=1 ;; ?????w*) [ "${3-}" = root ] || bad=1 ;; esac
}
# Runs a command as whoever acts in the directory of a path. What becomes, is or was a data directory needs no such question: it
# is the user's, who made it where it stands, maybe behind a link that leads into a place of root's.
beside() { # PATH COMMAND…
  home=${1%/*}
  shift
  if [ "$am_root" = 1 ] && [ "$user" != root ] && ! is_roots "${home:-/}"; then as_user "$@"; else "$@"; fi
}
# Makes a directory for the user, with a mode, and those above it. What root makes lies where nobody else can swap it meanwhile.
make_directory() { # PATH MODE OWNER
  [ ! -d "$1" ] || return 0
  [ -d "${1%/*}/" ] || make_directory "${1%/*}" 0755 root: || return 1
  if [ "$am_root" = 1 ] && is_roots "${1%/*}/"; then
    if mkdir -m "$2" -- "$1"; then chown -h -- "$3" "$1"; else [ -d "$1" ]; fi
  else
    as_user mkdir -m "$2" -- "$1" || [ -d "$1" ]
  fi
}
