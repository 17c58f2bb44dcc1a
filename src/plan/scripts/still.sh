# What every script asks again that renames or removes a data directory, at the moment when it does so. Status 73: it refuses.
export LC_ALL=C
refuse() { printf '%s; nothing was changed\n' "$1" >&2; exit 73; }
# The lock of OWN is that of run RUN: whoever lost it must not touch anything.
must_hold_lock() { # OWN RUN
  case $(cat "$1/lock" 2>/dev/null) in *"\"$2\""*) ;; *) refuse "the lock of run $2 is not in $1 any more" ;; esac
}
# A whole directory, no link, on the file system of its parent, without a mount on it or in it.
must_be_plain() { # PATH
  [ ! -L "$1" ] || refuse "$1 is a symbolic link"
  [ -d "$1" ] || refuse "$1 is not a directory"
  real=$(readlink -f -- "$1") || refuse "could not resolve $1"
  [ "$(stat -c %d -- "$1")" = "$(stat -c %d -- "${real%/*}/")" ] || refuse "$1 is on another file system than its parent"
  # Mount points are written with octal escapes; a path that would need them cannot be compared.
  case $real in *[!a-zA-Z0-9/._+:@%=,-]*) refuse "whether something is mounted in $1 cannot be seen: its path holds unusual characters" ;; esac
  mount=$(REAL=$real awk '$5 == ENVIRON["REAL"] || index($5, ENVIRON["REAL"] "/") == 1 { print $5; exit }' /proc/self/mountinfo) ||
    refuse "could not see what is mounted in $1"
  [ -z "$mount" ] || refuse "something is mounted at $mount"
}
# Every process of an instance works in its data directory; whoever else does uses it, too.
process_in() { # REAL PATH
  find /proc/[0-9]*/cwd -maxdepth 0 -printf '%p %l\n' 2>/dev/null |
    REAL=$1 awk '{ at = substr($0, index($0, " ") + 1) } at == ENVIRON["REAL"] || index(at, ENVIRON["REAL"] "/") == 1 { split($1, part, "/"); print part[3]; exit }'
}
must_be_still() { # PATH
  must_be_plain "$1"
  pid=$(process_in "$real")
  [ -z "$pid" ] || refuse "process $pid works in $1"
  # The lock file of a postmaster whose directory cannot be seen: another user's, where this one is not root.
  pid=$(head -n 1 -- "$1/postmaster.pid" 2>/dev/null)
  case $pid in '' | *[!0-9]*) return 0 ;; esac
  # One that has ended does nothing any more, whether or not somebody has waited for it.
  case $(sed -n 's/^State:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) in [ZX]*) return 0 ;; esac
  [ ! -e "/proc/$pid" ] || readlink "/proc/$pid/cwd" >/dev/null 2>&1 || refuse "process $pid of its postmaster.pid lives, and where it works cannot be seen"
}
