// Package vrouter is a userspace vRouter with IPsec offload, configured by
// NETCONF. The package itself holds only tests over the whole tree; start
// reading at README.md.
package vrouter
