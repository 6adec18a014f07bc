# The host of lxc.sh for as long as a driver's script lives. $WORK gets a directory commands, with a skiff that is its user's, and a file room, with the pid of a process in it, when it is ready.
PATH=${PATH#*:} # without the directory commands, which is first
mkdir $WORK/commands
cat >$WORK/commands/skiff <<'EOF'
#!/bin/sh
work=$(dirname $(dirname $0))
exec nsenter --user --mount --net -t $(cat $work/room) sh -c '. "$0"; as "$@"' $work/as.sh $SKIFF "$@"
EOF
chmod 755 $WORK/commands/skiff
exec timeout 1200 unshare -Urmn --map-auto sh -e -c '
ALLOWED=10
. $ROOMS/lxc.sh
serve 10.66.3.10 10.66.3.99 1000
printf "as() { exec %s \"\$@\"; }\n" "$as" >$WORK/as.sh
trap "exit 0" TERM
echo $$ >$WORK/room.new
mv $WORK/room.new $WORK/room
sleep 1200 & wait'
