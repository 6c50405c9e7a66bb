// Package e2e holds the end-to-end tests: real vRouters in network namespaces,
// configured over NETCONF, against peers that this project did not write. They
// need root; outside CI they are skipped without it.
package e2e
