// Package sal is the software acceleration layer: the one contract through
// which the vRouter reaches ports and crypto engines, be they software on this
// core, a look-aside engine or a whole device (OPNFV DPACC's SAL; its g-API).
//
// The shapes are small and burst-wide: one interface call moves up to 256
// packets, buffers travel as 8-byte descriptors into one mapped pool, and
// whoever gets a descriptor owns the buffer until it hands it on. Queues have
// one user each, so nothing on the packet path takes a lock.
//
// What stands where:
//
//	buf.go       descriptors, the pool, per-worker caches
//	port.go      ports and their queues
//	device.go    engines: open, groups, SAs, queues, jobs
//	sa.go        what a security association is to an engine
//	algorithm.go what algorithms need, and add to a packet
//	caps.go      what an engine can do
//	event.go     what an engine reports by itself
//	registry.go  the drivers a process was built with
//
// Drivers live in folders of their own, one for each: memory, afpacket, afxdp, tap
// and pcap for ports, cpu, ipsecmb, afalg and pool for crypto. Package saltest is the
// conformance suite that each of them passes; gso is what port drivers of the kernel
// share.
package sal

import "errors"

// Version of this contract; an engine reports the one it was built for.
const Version = 1

// Burst is the largest number of packets or jobs in one call.
const Burst = 256

// The errors of the contract; drivers wrap them with what they know.
var (
	// ErrNotSupported: the driver or engine cannot do this at all (outside its
	// Caps). It never falls back to something else by itself.
	ErrNotSupported = errors.New("not supported")
	// ErrBusy: opened exclusively by someone else.
	ErrBusy = errors.New("in use by another application")
	// ErrFull: no room for one more SA, group or queue.
	ErrFull = errors.New("full")
	// ErrNotFound: no such device, group or SA.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken, or the SPI where the engine goes by SPI.
	ErrExists = errors.New("exists already")
	// ErrGone: the device or port has been lost; only Close is left.
	ErrGone = errors.New("device is gone")
	// ErrInvalid: the arguments make no sense (key length, window size, …).
	ErrInvalid = errors.New("invalid")
)
