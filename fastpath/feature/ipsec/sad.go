package ipsec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/pipeline"
	"vrouter/pkg/esp"
	"vrouter/pkg/mem"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
)

// record is one SA as workers see it: it never changes once its handle is known
// to them, but for next and down. What packets change is in the live line. A new
// configuration of an SA is a new record over the same live line.
//
// Packets of an SA whose outer header is IPv4 need line 0 only.
type record struct {
	// line 0
	live   uint32 // slot of the live table
	sa     sal.SA // in its engine
	down   uint32 // why it carries nothing, recMoved and recMetered; atomic
	path   uint32 // what outer packets may have at most, by what was learnt; atomic
	window uint16 // replay window in packets, 0: off
	engine uint8  // which engine
	was    uint8  // with recMoved: the engine from which the SA comes

	// What is put around packets, with Flags of our own: the rest of line 0, and
	// where it is needed line 1 for IPv6, lines 1 and 2 for the outer DSCP.
	esp.Template

	// line 2
	reqid    uint64
	next     uint32 // older SA of the same ReqID and direction; atomic
	mismatch uint32 // counter of packets outside selectors and policy
	twin     uint32 // another SA of the same outKey; atomic
	mss      pipeline.MSS
	group    uint16 // with recMetered: index into purses
}

// Flags of a record, and those of its template.
const (
	recOutbound = esp.OwnFlags << iota
	recESN
	recAfter    // outer packets are cut, rather than inner ones
	recDeaf     // to ICMP about outer packets
	recFollow   // inbound: the peer may move
	recProtocol // an engine makes its packets, and takes them apart

	recV6        = esp.V6
	recUDPSum    = esp.UDPSum
	recTransport = esp.Transport
)

// Reasons of down.
const (
	recStale uint32 = 1 << iota // the sequence state was lost
	recLost                     // the engine was lost, and with it the SA
	recEnded                    // a lifetime is over
	// recMoved is no reason: the SA has come from another engine, where packets of
	// it may be under way (follow).
	recMoved
	// recMetered is none either: the SA's group has quotas (quota.go).
	recMetered

	recReasons = recStale | recLost | recEnded
)

// saErrors counts packets that died of an SA, by place in saReasons.
type saErrors [24]uint64

// saReasons are the reasons that are counted for each SA. (IPsecPolicyMismatch
// is as well, by pipeline.Counters, because the flow cache decides there.)
var saReasons = [len(saErrors{})]drop.Reason{drop.ESPReplay, drop.ESPLate, drop.ESPBadICV, drop.ESPShort, drop.ESPBadPad,
	drop.ESPBadNext, drop.ESPBadECN, drop.ESPDummy, drop.ESPNoRoom, drop.ESPSeqOverflow, drop.ESPSeqStale, drop.ESPNoSA,
	drop.SALDevice, drop.SALQueueFull, drop.ESPExpired, drop.ESPEncapsulation, drop.ESPQuota}

// saReason is the place of a reason in saReasons.
var saReason = func() (at [drop.N]uint8) {
	for i, r := range saReasons {
		at[r] = uint8(i)
	}
	return at
}()

// sad is the security association database as workers use it.
type sad struct {
	live   *liveFile
	rec    mem.Table[record]
	errs   mem.Table[saErrors]      // by slot
	late   mem.Table[lateness]      // by slot
	limits []atomic.Pointer[limits] // by slot
	seen   mem.Table[sighting]      // by slot
	bySPI  *spiTable                // inbound
	outSPI *spiTable                // outbound, by outKey
}

// idle says why an SA carries nothing, None when it does.
func (r *record) idle() drop.Reason {
	switch f := atomic.LoadUint32(&r.down) & recReasons; {
	case f == 0:
		return drop.None
	case f&recStale != 0:
		return drop.ESPSeqStale
	case f&recEnded != 0:
		return drop.ESPExpired
	}
	return drop.SALDevice
}

func (d *sad) at(h uint32) *record {
	return (*record)(unsafe.Add(d.rec.Base(), uintptr(h)*unsafe.Sizeof(record{})))
}

// held is where an SA is: its record, and its place in an engine.
type held struct {
	handle, slot uint32
	engine       *engine
	id           sal.SA // in the engine
	losses       uint64 // the engine's when it took the SA
	mode         string
}

// sa is the writer's view of an installed SA.
type sa struct {
	SA     // Key and IntegrityKey are nil: the engine has them, and the keyring
	layout sal.Layout
	tag    [32]byte
	keys   [32]byte // a hash of all that the engine was given
	held
	fresh    bool   // the slot is to begin anew
	added    int64  // since boot
	order    uint64 // in which SAs were set
	sel      *scope
	peer     *peer  // that it follows, nil if none
	alive    int64  // when a keep-alive was sent last, since boot
	mismatch uint32 // of pipeline.Counters
	group    uint32 // index of its tenant group, 0: none
	reason   string
	stale    string // why it carries nothing
	lost     bool   // with its engine, and no other has taken it
	kept     *sa    // until it is published: whose handle in the engine it has
	pinned   bool   // an operator has placed it
	alarm    alarm
	reported uint64 // how often its numbers had gone over SeqReport, and one; 0: not looked at
	moving   bool   // packets of it may be under way in the engine before
	over     bool   // a lifetime has ended it
	timer    int    // place among those that wait, -1: none
	due      int64
}

// checkSA refuses what can never work, whatever else is configured.
func checkSA(s *SA) (field string, err error) {
	switch {
	case s.Name == "":
		return "Name", errors.New("an SA needs a name")
	case s.Direction != sal.Inbound && s.Direction != sal.Outbound:
		return "Direction", fmt.Errorf("direction %d does not exist", s.Direction)
	case s.SPI < 256:
		return "SPI", fmt.Errorf("SPI %d is reserved (RFC 4303 section 2.1): use 256 or more", s.SPI)
	case !tunnelEnd(s.Local):
		return "Local", fmt.Errorf("%v cannot be a tunnel's address", s.Local)
	case !tunnelEnd(s.Remote):
		return "Remote", fmt.Errorf("%v cannot be a tunnel's address", s.Remote)
	case s.Local.Is4() != s.Remote.Is4():
		return "Remote", fmt.Errorf("tunnel addresses %v and %v are of different families", s.Local, s.Remote)
	case (s.UDP.Local == 0) != (s.UDP.Remote == 0):
		return "UDP", errors.New("UDP encapsulation needs both ports")
	case s.FollowPeer && s.UDP == (UDP{}):
		return "FollowPeer", errors.New("only with UDP encapsulation does a NAT give the peer another address")
	case s.FollowPeer && s.Direction == sal.Inbound && s.ReplayWindow == replay.Off:
		return "FollowPeer", errors.New("without an anti-replay window nothing tells a copy of a packet from one that the peer has just sent")
	case s.Direction == sal.Inbound && s.ReplayWindow == replay.Off && s.ESN:
		// As Linux does it.
		return "ReplayWindow", errors.New("extended sequence numbers need an anti-replay window: it tells the half that is not on the wire (RFC 4303 section 3.3.3)")
	case s.Direction == sal.Inbound && s.ReplayWindow != replay.Off && (s.ReplayWindow < replay.MinSize || s.ReplayWindow > replay.MaxSize):
		return "ReplayWindow", fmt.Errorf("anti-replay window of %d packets: %d to %d are built, and 0 for none", s.ReplayWindow, replay.MinSize, replay.MaxSize)
	case s.DF > SetDF:
		return "DF", fmt.Errorf("way %d of setting DF does not exist", s.DF)
	case s.DSCP != nil && len(s.DSCP) != 64:
		return "DSCP", fmt.Errorf("%d DSCPs: all 64 or none must be given", len(s.DSCP))
	case slices.ContainsFunc(s.DSCP, func(d uint8) bool { return d > 63 }):
		return "DSCP", errors.New("a DSCP has 6 bits")
	case s.Fragmentation > AfterEncryption:
		return "Fragmentation", fmt.Errorf("place %d of fragmentation does not exist", s.Fragmentation)
	case s.Mode > Transport:
		return "Mode", fmt.Errorf("mode %d does not exist", s.Mode)
	case s.SoftAction > TerminateHold:
		return "SoftAction", fmt.Errorf("action %d at the soft lifetime is not built", s.SoftAction)
	}
	if s.Mode == Transport {
		if field, err := checkTransport(s); err != nil {
			return field, err
		}
	}
	if field, err := checkLifetimes(&s.Soft, &s.Hard); err != nil {
		return field, err
	}
	return checkAlgorithms(s)
}

// checkTransport refuses what transport mode cannot have.
func checkTransport(s *SA) (field string, err error) {
	switch {
	case s.Local.IsLinkLocalUnicast() || s.Remote.IsLinkLocalUnicast():
		return "Local", fmt.Errorf("%v and %v: a link-local address means nothing without its link, which an SA does not name", s.Local, s.Remote)
	case s.Local == s.Remote:
		return "Remote", fmt.Errorf("%v is both ends", s.Remote)
	case s.Selector.Local != netip.PrefixFrom(s.Local, s.Local.BitLen()):
		return "Selector.Local", fmt.Errorf("an SA in transport mode carries packets of %v only, not of %v", s.Local, s.Selector.Local)
	case s.Selector.Remote != netip.PrefixFrom(s.Remote, s.Remote.BitLen()):
		return "Selector.Remote", fmt.Errorf("an SA in transport mode carries packets of %v only, not of %v", s.Remote, s.Selector.Remote)
	case s.DF != CopyDF:
		return "DF", errors.New("in transport mode there is no outer header to set DF in")
	case s.DSCP != nil:
		return "DSCP", errors.New("in transport mode there is no outer header for another DSCP")
	case s.Fragmentation != BeforeEncryption:
		return "Fragmentation", errors.New("in transport mode nothing is cut before encryption (RFC 4303 section 3.3.4), so there is nothing to choose")
	case s.MSS != pipeline.NoClamp:
		return "MSS", errors.New("in transport mode no TCP of others passes whose segments could be made smaller")
	case s.FollowPeer:
		return "FollowPeer", errors.New("in transport mode a peer with another address is another peer")
	}
	return "", nil
}

// checkAlgorithms refuses algorithms that are not there or do not go together,
// and keys of a wrong length. It says nothing of a key but its length.
func checkAlgorithms(s *SA) (field string, err error) {
	shape, ok := s.Algorithm.Shape()
	if !ok {
		return "Algorithm", fmt.Errorf("encryption algorithm %d is not built", uint16(s.Algorithm))
	}
	h, known := s.Integrity.Shape()
	switch {
	case shape.AEAD && s.Integrity != sal.NoIntegrity:
		return "Integrity", fmt.Errorf("%v has integrity in itself: none can stand beside it (RFC 7296 section 3.3)", s.Algorithm)
	case !shape.AEAD && s.Integrity == sal.NoIntegrity:
		return "Integrity", fmt.Errorf("%v needs an integrity algorithm beside it (RFC 8221 section 4)", s.Algorithm)
	case !shape.AEAD && !known:
		return "Integrity", fmt.Errorf("integrity algorithm %d is not built", uint16(s.Integrity))
	}
	if bits := s.keyBits(); len(s.Key) < shape.Salt || !slices.Contains(shape.KeyBits, bits) {
		return "Key", fmt.Errorf("key and salt have %d octets: %v takes keys of %v bits and %d octets of salt", len(s.Key), s.Algorithm, shape.KeyBits, shape.Salt)
	}
	if len(s.IntegrityKey) != h.Key {
		return "IntegrityKey", fmt.Errorf("the key has %d octets: %v takes %d", len(s.IntegrityKey), s.Integrity, h.Key)
	}
	return "", nil
}

// checkLifetimes refuses soft lifetimes that cannot be reached.
func checkLifetimes(soft, hard *Lifetime) (field string, err error) {
	for _, x := range [...]struct {
		field      string
		soft, hard uint64
	}{{"Time", uint64(soft.Time), uint64(hard.Time)}, {"Bytes", soft.Bytes, hard.Bytes},
		{"Packets", soft.Packets, hard.Packets}, {"Idle", uint64(soft.Idle), uint64(hard.Idle)}} {
		if x.hard != 0 && x.soft > x.hard {
			return "Soft." + x.field, fmt.Errorf("the soft lifetime of %d comes after the hard one of %d", x.soft, x.hard)
		}
	}
	return "", nil
}

// engineConfig is what an engine is told of an SA that it is to serve in a mode. In mode
// protocol it gets the SA held: see hand.
func (s *SA) engineConfig(mode string) *sal.SAConfig {
	c := &sal.SAConfig{SPI: s.SPI, Direction: s.Direction, Mode: sal.ModeCrypto, Algorithm: s.Algorithm, Integrity: s.Integrity,
		Key: s.Key, IntegrityKey: s.IntegrityKey, ESN: s.ESN}
	if mode != modeProtocol {
		return c
	}
	c.Mode, c.Held = sal.ModeProtocol, true
	c.Local, c.Remote, c.LocalPort, c.RemotePort, c.DF, c.DSCP = s.Local, s.Remote, s.UDP.Local, s.UDP.Remote, s.DF, s.DSCP
	c.ReplayWindow = s.ReplayWindow
	c.Soft = sal.Lifetime{Packets: s.Soft.Packets, Bytes: s.Soft.Bytes}
	c.Hard = sal.Lifetime{Packets: s.Hard.Packets, Bytes: s.Hard.Bytes}
	if s.SoftAction == TerminateHold {
		c.Hard, c.Soft = sal.Lifetime{Packets: first(c.Soft.Packets, c.Hard.Packets), Bytes: first(c.Soft.Bytes, c.Hard.Bytes)}, sal.Lifetime{}
	}
	return c
}

// first is the limit of two that comes first; 0 is none.
func first(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// alike tells whether an engine in mode protocol is told the same of two SAs whose keys
// and directions are the same.
func (s *SA) alike(o *SA) bool {
	return s.SPI == o.SPI && s.Local == o.Local && s.Remote == o.Remote && s.UDP == o.UDP && s.DF == o.DF && slices.Equal(s.DSCP, o.DSCP) && (s.DSCP == nil) == (o.DSCP == nil) &&
		s.ReplayWindow == o.ReplayWindow && s.Soft == o.Soft && s.Hard == o.Hard && s.SoftAction == o.SoftAction
}

func (s *SA) keyBits() int {
	return (&sal.SAConfig{Algorithm: s.Algorithm, Key: s.Key}).KeyBits()
}

func tunnelEnd(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

// fill writes a record whose handle is not known to any worker yet.
func (r *record) fill(s *sa) {
	*r = record{live: s.slot, sa: s.id, engine: uint8(s.engine.index), reqid: s.ReqID, mismatch: s.mismatch,
		window: uint16(s.ReplayWindow), path: noPathMTU, mss: s.MSS}
	at := s.at()
	r.Set(&esp.Config{SPI: s.SPI, IV: s.layout.IV, ICV: s.layout.ICV, Align: s.layout.Align, Local: s.Local, Remote: at.Addr(),
		LocalPort: s.UDP.Local, RemotePort: at.Port(), DF: s.DF, DSCP: s.DSCP, Transport: s.Mode == Transport})
	if s.Direction == sal.Outbound {
		r.Flags |= recOutbound
	} else {
		r.Flags &^= recUDPSum
	}
	if s.ESN {
		r.Flags |= recESN
	}
	if s.Fragmentation == AfterEncryption {
		r.Flags |= recAfter
	}
	if s.IgnoreICMP {
		r.Flags |= recDeaf
	}
	if s.FollowPeer && s.Direction == sal.Inbound {
		r.Flags |= recFollow
	}
	if s.group != 0 {
		r.group = uint16(s.group)
		r.down |= recMetered
	}
	if s.whole() {
		r.Flags |= recProtocol
	}
	if s.stale != "" {
		r.down |= recStale
	}
	if s.lost {
		r.down |= recLost
	}
}

// seqMaxOf is the last sequence number an SA may send (RFC 4303 section 3.3.3).
// With ESN one number is left out, so that adding one never wraps.
func seqMaxOf(s *SA) uint64 {
	if s.ESN {
		return math.MaxUint64 - 1
	}
	return math.MaxUint32
}

// outer tells whether an inbound packet's outer source and destination are the
// SA's ends, as they are at present. The header is that of the direction in which we would send:
// from Local to Remote.
func (r *record) outer(src, dst addr, v6 bool) bool {
	if v6 != (r.Flags&recV6 != 0) {
		return false
	}
	if v6 {
		b := r.Hdr6[8:40]
		return dst.hi == binary.BigEndian.Uint64(b) && dst.lo == binary.BigEndian.Uint64(b[8:]) &&
			src.hi == binary.BigEndian.Uint64(b[16:]) && src.lo == binary.BigEndian.Uint64(b[24:])
	}
	return uint32(dst.hi>>32) == binary.BigEndian.Uint32(r.Hdr4[12:]) && uint32(src.hi>>32) == binary.BigEndian.Uint32(r.Hdr4[16:])
}
