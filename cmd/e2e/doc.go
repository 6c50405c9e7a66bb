// Package e2e holds the end-to-end tests: real processes, network namespaces,
// real packets, and peers and clients that this project did not write. They need
// root; on Debian "make peers" installs what else they need. Each test builds its
// network anew and removes it, also when it fails or is killed.
//
//	VROUTER_SOAK=60s   how long the tests under commits run, and each iperf3 of
//	                   TestPortThroughput
//	VROUTER_KILLS=50   how often TestKilledAtRandomMoments kills each process
//	SEED=n             repeats its moments
//	VROUTER_CHAOS=60s  how long TestEngineChaos runs
//	SOAK=30m           how long TestSoak runs: see make soak
package e2e
