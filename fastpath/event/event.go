// Package event is what the data plane tells by itself: that an SA has expired,
// that a port is down, that an engine is lost.
//
// Events are made on the control side. What workers notice they leave as bits in
// memory that the control side reads, so no worker ever waits for a reader of
// events, nor does the control side: the Log keeps the newest events and gives
// up the oldest, and counts those that nobody has taken. What an outsider can
// bring about by sending packets goes through a Limit.
package event

import (
	"net/netip"
	"time"
)

// Kind says what happened.
type Kind uint8

// The kinds.
const (
	// SASoftExpired: an SA has reached a soft lifetime: it is due to be replaced.
	SASoftExpired Kind = iota + 1
	// SAHardExpired: an SA has reached a hard lifetime and carries nothing any
	// more.
	SAHardExpired
	// SASeqNear: an outbound SA has few sequence numbers left.
	SASeqNear
	// SASeqOverflow: an outbound SA has no sequence number left and sends
	// nothing any more (RFC 4303 section 3.3.3).
	SASeqOverflow
	// BadSPI: ESP came to an own address with an SPI that no SA has. Limited.
	BadSPI
	// PortUp: an interface's link is there.
	PortUp
	// PortDown: an interface's link is gone.
	PortDown
	// PortLost: an interface's port is gone and could not be opened again.
	PortLost
	// EngineLost: a crypto engine is gone, or does not do its work. Its SAs have gone
	// to other engines, or carry nothing.
	EngineLost
	// SAPeerMoved: the peer of an inbound SA has come to have another address or
	// port, which the outbound SAs to it use from now on.
	SAPeerMoved
	// EngineBack: a crypto engine that was lost works again.
	EngineBack
	// SAMigrated: an SA has gone to another engine, with its numbers and its window.
	// Limited.
	SAMigrated
	// OffloadNotMet: an SA is served in another way than it prefers. Limited.
	OffloadNotMet
	// ICVAlarm: an inbound SA is sent many packets with a wrong ICV. Limited, by SA and
	// in all.
	ICVAlarm
	// ReplayAlarm: an inbound SA is sent many packets that were seen before or come too
	// late. Limited in the same way.
	ReplayAlarm
	// SASeqReport: an SA has used so many more sequence numbers as it is to report.
	// Limited.
	SASeqReport
	kinds
)

var kindNames = [kinds]string{SASoftExpired: "sa-soft-expired", SAHardExpired: "sa-hard-expired", SASeqNear: "sa-seq-near",
	SASeqOverflow: "sa-seq-overflow", BadSPI: "bad-spi", PortUp: "port-up", PortDown: "port-down", PortLost: "port-lost",
	EngineLost: "engine-lost", SAPeerMoved: "sa-peer-moved", EngineBack: "engine-back", SAMigrated: "sa-migrated",
	OffloadNotMet: "offload-not-met", ICVAlarm: "icv-alarm", ReplayAlarm: "replay-alarm", SASeqReport: "sa-seq-report"}

// String is the kind as logs show it.
func (k Kind) String() string {
	if k < kinds && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// Event is something that happened. It is a plain value without secrets.
type Event struct {
	// Number counts the events of a process from 1, without gaps.
	Number uint64
	Time   int64 // Unix nanoseconds
	Kind   Kind
	// Object is the name of the SA, the interface or the engine; "" for BadSPI.
	Object string
	// Text says why, in words.
	Text string
	// SA is there for the kinds of SAs.
	SA *SA
	// Engine is of SAMigrated and OffloadNotMet: where the SA is; Before is where it was.
	Engine, Before string
	// Count is of ICVAlarm and ReplayAlarm: how many packets.
	Count uint64
	// SPI and Iface (where it came in) are of BadSPI.
	SPI   uint32
	Iface string
	// Alike counts the events of this kind that the limit has swallowed since
	// the one before.
	Alike uint64
}

// SA is an SA at the time of its event.
type SA struct {
	SPI           uint32
	Inbound       bool
	Local, Remote netip.Addr // outer addresses
	// Peer and Before are of SAPeerMoved: where the peer is, and where it was.
	Peer, Before netip.AddrPort
	// Cause is the lifetime that was reached: time, bytes, packets or idle; ""
	// for sequence numbers.
	Cause          string
	Age, Idle      time.Duration // since it was made; since its last packet
	Packets, Bytes uint64        // of inner IP
	Seq            uint64        // the last number sent; inbound the highest received
}

// Stats is how a Log does.
type Stats struct {
	Last  uint64 // the newest event's number
	Taken uint64 // the newest that a reader has taken
	// Lost counts events that nobody had taken when they gave way to newer ones.
	Lost uint64
	// Limited counts events that were not made, because there were too many
	// of their kind.
	Limited uint64
}
