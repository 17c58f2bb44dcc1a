# Makes the directory $1 for user $2 where it is absent, and leaves it alone where it is there.
[ -d "$1" ] || { mkdir -p -- "$1" && chown -- "$2:" "$1" && chmod 0700 -- "$1"; }
