// Package machine boots real systems for tests: Debian with systemd, each in a network of its own, with the DHCP, the DNS and the
// syncer of a site.
//
// It goes in this order: Sandbox puts the test into namespaces that end with it; Roots builds the file systems, once; NewSite makes
// a network; Site.Boot starts a machine in it, which runs commands, reboots, loses power and is compared with what it was.
//
// Nothing of it touches the resolver, the interfaces or the services of the machine that tests run on, and all of it ends with the
// test, also when that is killed: its processes, its mounts and its networks are in namespaces that nobody else holds.
package machine
