# Makes the directory $1 for user $2, with mode $3, where it is absent, and leaves it alone where it is there (owner.sh).
user=$2
make_directory "$1" "$3" "$2:"
