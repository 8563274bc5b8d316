// Package pitest makes Raspberry Pis for tests on one Linux machine: a house with a network of its
// own, and Pis in it that are reached with the real SSH.
//
// Real are the network (namespaces, links and a bridge), the file system (this machine's, under a
// layer of the Pi's own on a disk of a given size), sshd with sudo and sftp, and every program but
// these, for which there are stand-ins: systemd (systemctl, journalctl, reboot), the swap, uname,
// date, and k3s with its install.sh. A Pi's memory, boot flags, cgroups and boot id are what its
// options say and its boots make of them. Its programs are those of this machine, so its own
// architecture is this machine's, whatever uname says.
//
// Nothing outside is touched but for one link of this machine into the house. All of it is held by
// processes that end with the test's own, even if that is killed.
package pitest
