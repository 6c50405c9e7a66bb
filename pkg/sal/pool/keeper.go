package pool

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/esp"
	"vrouter/pkg/pkt"
	"vrouter/pkg/replay"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

// A keeper keeps what sal.ModeProtocol has an engine keep of an SA: numbers, replay
// window, lifetimes, and how packets look. A packet's way:
//
//	admit   Submit  out: does it fit, its number; in: lengths, SPI, was it seen
//	encap   thread  out: headers and trailer, for the inner engine to seal
//	decap   thread  in: what the inner engine has opened: trailer, ECN
//	settle  Poll    in: enters the number; both: counts
//
// So numbers are given, and entered, in the order of Submit, whichever thread did
// which packets: several threads make no packet late. Several queues take turns by
// the lock, each for all neighbouring packets of the SA.
type keeper struct {
	esp.Template
	spi        uint32
	inbound    bool
	esn        bool
	seqMax     uint64 // the last number there is
	soft, hard sal.Lifetime
	report     uint64

	_    [64]byte
	lock uint32
	// What follows belongs to whoever holds the lock.
	held           bool
	told           uint8  // events that were sent
	seq            uint64 // outbound: last used
	limit, low     uint64 // outbound: the last that may be used, and where it is time to say so
	packets, bytes uint64 // towards lifetimes
	window         replay.Window
	done           sal.SAStats
}

// told.
const (
	toldSoftPackets uint8 = 1 << iota
	toldSoftBytes
	toldHardPackets
	toldHardBytes
	toldOverflow
)

// newKeeper makes the keeper of a config, whose algorithms and keys are right.
func newKeeper(c *sal.SAConfig) (*keeper, error) {
	bad := func(format string, a ...any) (*keeper, error) {
		return nil, fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), sal.ErrInvalid)
	}
	end := func(a netip.Addr) bool {
		return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}
	inbound := c.Direction == sal.Inbound
	switch {
	case !inbound && c.Direction != sal.Outbound:
		return bad("direction %d", c.Direction)
	case c.SPI == 0:
		return bad("SPI 0")
	case !end(c.Local) || !end(c.Remote) || c.Local.Is4() != c.Remote.Is4():
		return bad("outer addresses %v and %v", c.Local, c.Remote)
	case (c.LocalPort == 0) != (c.RemotePort == 0):
		return bad("UDP ports %d and %d", c.LocalPort, c.RemotePort)
	case c.DF > esp.SetDF:
		return bad("way %d of setting DF", c.DF)
	case c.DSCP != nil && (len(c.DSCP) != 64 || slices.ContainsFunc(c.DSCP, func(d uint8) bool { return d > 63 })):
		return bad("%d DSCPs of 6 bits, all 64 or none", len(c.DSCP))
	case inbound && c.ReplayWindow == replay.Off && c.ESN:
		return bad("extended sequence numbers without a replay window")
	case inbound && c.ReplayWindow != replay.Off && (c.ReplayWindow < replay.MinSize || c.ReplayWindow > replay.MaxSize):
		return bad("replay window of %d", c.ReplayWindow)
	}
	l, err := c.Layout()
	if err != nil {
		return nil, err
	}
	k := &keeper{spi: c.SPI, inbound: inbound, esn: c.ESN, seqMax: math.MaxUint32, soft: c.Soft, hard: c.Hard, report: c.SeqReport, held: c.Held}
	if c.ESN {
		k.seqMax = math.MaxUint64 - 1 // so that adding one never wraps
	}
	k.Set(&esp.Config{SPI: c.SPI, IV: l.IV, ICV: l.ICV, Align: l.Align, Local: c.Local, Remote: c.Remote,
		LocalPort: c.LocalPort, RemotePort: c.RemotePort, DF: c.DF, DSCP: c.DSCP})
	if inbound {
		k.window, _ = replay.Init(make([]uint64, replay.Words(int(c.ReplayWindow))), int(c.ReplayWindow), c.ESN) // the size was checked
	}
	return k, k.set(&c.State)
}

// hold and release stand around what several goroutines do to one SA. The holder
// never waits for anything, so this is a matter of nanoseconds unless the kernel
// takes its processor away.
func (k *keeper) hold() {
	for n := 0; !atomic.CompareAndSwapUint32(&k.lock, 0, 1); n++ {
		if n&63 == 63 {
			runtime.Gosched()
		}
	}
}

func (k *keeper) release() { atomic.StoreUint32(&k.lock, 0) }

// set gives the SA another state.
func (k *keeper) set(s *sal.SAState) error {
	if s.Seq > k.seqMax || s.SeqLimit != 0 && s.SeqLimit < s.Seq {
		return fmt.Errorf("sequence number %d of %d, allowed %d: %w", s.Seq, k.seqMax, s.SeqLimit, sal.ErrInvalid)
	}
	k.packets, k.bytes, k.told = s.Packets, s.Bytes, 0
	if k.inbound {
		k.window.Load(s.Seq, s.Window)
		return nil
	}
	k.seq = s.Seq
	k.allow(s.SeqLimit)
	return nil
}

// allow moves the last number that may be used.
func (k *keeper) allow(limit uint64) {
	k.limit, k.low = math.MaxUint64, math.MaxUint64
	if limit != 0 {
		k.limit, k.low = limit, limit-(limit-min(k.seq, limit)+1)/2
	}
}

// state is what set takes.
func (k *keeper) state() (s sal.SAState) {
	s = sal.SAState{Seq: k.seq, Packets: k.packets, Bytes: k.bytes}
	switch {
	case k.inbound:
		s.Seq, s.Window = k.window.Top(), k.window.Bits(nil)
	case k.limit != math.MaxUint64:
		s.SeqLimit = k.limit
	}
	return s
}

// admit looks at a job that is about to be submitted; k is held. On StatusPending it
// goes on: outbound with a number, inbound with Off, Len and SeqHi as for sal.Open.
func (k *keeper) admit(s *session.Session, j *sal.Job, pool *sal.Pool) (seq uint64, st sal.Status) {
	if k.inbound != (j.Op == sal.Decap) {
		return 0, sal.StatusNoSA // it does one operation only: see sal.StatusNoSA
	}
	if k.held {
		return 0, sal.StatusHeld
	}
	n := uint64(j.Desc.Len())
	if end := pool.End(j.Desc.Buf()); int(j.Desc.Off())+int(n) > end {
		return 0, sal.StatusNoRoom
	} else if !k.inbound {
		if !whole(pool.Bytes(j.Desc)) {
			return 0, sal.StatusShort
		}
		if head, tail := int(k.Head()), int(k.Tail()); int(j.Desc.Off()) < head || int(j.Desc.Off())+int(n)+tail > end || head+int(n)+tail > sal.MaxPacket {
			return 0, sal.StatusNoRoom
		}
		return k.number(s, j, n)
	}
	b := pool.Bytes(j.Desc)
	hl := k.header(b)
	if hl < 0 {
		return 0, sal.StatusShort
	}
	around, mask := int(k.Prefix)+int(k.ICV), int(k.Mask)
	if n := len(b) - hl; n < around+mask+1 || (n-around)&mask != 0 {
		return 0, sal.StatusShort
	}
	if binary.BigEndian.Uint32(b[hl:]) != k.spi {
		return 0, sal.StatusNoSA
	}
	seq, v := k.window.Check(binary.BigEndian.Uint32(b[hl+4:]))
	j.Off, j.Len, j.SeqHi = j.Desc.Off()+uint16(hl), uint16(len(b)-hl-around), uint32(seq>>32)
	return seq, seen[v]
}

// seen is what a job gets by what the window says.
var seen = [...]sal.Status{replay.OK: sal.StatusPending, replay.Replayed: sal.StatusReplay, replay.TooOld: sal.StatusLate, replay.Invalid: sal.StatusReplay}

// whole tells whether b is an IP packet of the length that it says.
func whole(b []byte) bool {
	switch {
	case len(b) < pkt.IPv4Len:
		return false
	case b[0]>>4 == 4:
		return pkt.IPv4(b).TotalLen() == len(b)
	case b[0]>>4 == 6:
		return len(b) >= pkt.IPv6Len && pkt.IPv6Len+pkt.IPv6(b).PayloadLen() == len(b)
	}
	return false
}

// header is how long what stands before ESP is in an outer packet, -1 if it is none
// of this SA's kind.
func (k *keeper) header(b []byte) int {
	v6 := k.Flags&esp.V6 != 0
	if !whole(b) || v6 != (b[0]>>4 == 6) {
		return -1
	}
	o, bad := pkt.ParseIP(b)
	if bad != pkt.OK || o.Flags&(pkt.FirstFragment|pkt.LaterFragment) != 0 {
		return -1
	}
	hl := int(o.L4) + int(k.UDP)
	switch {
	case hl+esp.HeaderLen > len(b), k.UDP == 0 && o.Proto != pkt.ProtoESP, k.UDP != 0 && o.Proto != pkt.ProtoUDP:
		return -1
	case k.UDP != 0 && pkt.UDP(b[o.L4:]).Len() != len(b)-int(o.L4): // nothing is behind the datagram
		return -1
	}
	return hl
}

// number gives a packet of n bytes the next number, if the SA may carry it.
func (k *keeper) number(s *session.Session, j *sal.Job, n uint64) (uint64, sal.Status) {
	switch {
	case k.hard.Packets != 0 && k.seq >= k.hard.Packets:
		k.tell(s, toldHardPackets, sal.EventHardPackets, j.SA, k.seq)
		return 0, sal.StatusExpired
	case k.hard.Bytes != 0 && k.bytes+n > k.hard.Bytes:
		k.tell(s, toldHardBytes, sal.EventHardBytes, j.SA, k.bytes)
		return 0, sal.StatusExpired
	case k.seq >= k.seqMax:
		k.tell(s, toldOverflow, sal.EventSeqOverflow, j.SA, k.seq)
		return 0, sal.StatusSeqOverflow
	case k.seq >= k.limit:
		return 0, sal.StatusHeld
	}
	k.seq++
	k.packets++
	k.bytes += n
	j.Flags = k.softly(s, j.SA, k.seq)
	if k.seq > k.low {
		j.Flags |= sal.SeqLow
	}
	if k.report != 0 && k.seq%k.report == 0 {
		s.Report(sal.Event{Kind: sal.EventSeqPeriodic, SA: j.SA, SPI: k.spi, Value: k.seq})
	}
	return k.seq, sal.StatusPending
}

// softly tells of soft lifetimes, the SA having come to so many packets, and gives the
// flags of the packet.
func (k *keeper) softly(s *session.Session, h sal.SA, packets uint64) (flags uint8) {
	if k.soft.Packets != 0 && packets >= k.soft.Packets {
		flags = sal.Soft
		k.tell(s, toldSoftPackets, sal.EventSoftPackets, h, packets)
	}
	if k.soft.Bytes != 0 && k.bytes >= k.soft.Bytes {
		flags = sal.Soft
		k.tell(s, toldSoftBytes, sal.EventSoftBytes, h, k.bytes)
	}
	return flags
}

// tell reports what has happened to an SA, once.
func (k *keeper) tell(s *session.Session, bit uint8, kind sal.EventKind, h sal.SA, value uint64) {
	if k.told&bit == 0 {
		k.told |= bit
		s.Report(sal.Event{Kind: kind, SA: h, SPI: k.spi, Value: value})
	}
}

// encap makes a packet that has a number ready to be sealed: j is a job for
// sal.Seal then.
func (k *keeper) encap(j *sal.Job, seq uint64, pool *sal.Pool) {
	p := pool.Bytes(j.Desc)
	n := uint32(len(p))
	k.Encap(unsafe.Pointer(&p[0]), n, p[0]>>4 == 6, seq)
	text, head := k.TextLen(n), uint16(k.Head())
	j.Op, j.Off, j.Len, j.SeqHi = sal.Seal, j.Desc.Off()-uint16(k.Prefix), uint16(text), uint32(seq>>32)
	j.Desc = sal.MakeDesc(j.Desc.Buf(), j.Desc.Off()-head, head+uint16(text)+uint16(k.ICV))
}

// sealed ends what encap began, for an inner packet of n bytes.
func (k *keeper) sealed(j *sal.Job, n uint16, pool *sal.Pool) {
	if k.Flags&esp.UDPSum != 0 {
		esp.SumUDP6(pool.Bytes(j.Desc), int(j.Off-j.Desc.Off())-esp.UDPLen)
	}
	j.Len = n
}

// decap looks into a packet that the inner engine has opened. It gives the length of
// the inner packet, or what is wrong with it.
func (k *keeper) decap(j *sal.Job, pool *sal.Pool) (n uint32, st sal.Status) {
	b := pool.Bytes(j.Desc)
	tos := b[1]
	if k.Flags&esp.V6 != 0 {
		tos = uint8(binary.BigEndian.Uint16(b) >> 4)
	}
	text := b[int(j.Off-j.Desc.Off())+int(k.Prefix):]
	n, bad := esp.Decap(unsafe.Pointer(&text[0]), uint32(j.Len), tos)
	return n, verdicts[bad]
}

var verdicts = [...]sal.Status{esp.OK: sal.StatusOK, esp.Short: sal.StatusShort, esp.BadPad: sal.StatusBadPad, esp.BadNext: sal.StatusBadNext,
	esp.BadECN: sal.StatusBadECN, esp.Dummy: sal.StatusDummy}

// settle ends a job of the SA that is about to be polled; k is held. inner is what
// decap gave for a packet whose ICV was right.
func (k *keeper) settle(s *session.Session, j *sal.Job, inner uint32, verdict sal.Status, pool *sal.Pool) {
	if k.inbound && j.Status == sal.StatusOK {
		head := pool.Bytes(sal.MakeDesc(j.Desc.Buf(), j.Off, esp.HeaderLen))
		seq := uint64(j.SeqHi)<<32 | uint64(binary.BigEndian.Uint32(head[4:]))
		j.Status = verdict
		if v := k.window.Accept(seq); v != replay.OK {
			j.Status = seen[v]
		}
		if j.Status == sal.StatusOK {
			k.accept(s, j, inner)
		}
	}
	if j.Status != sal.StatusOK {
		j.Flags = 0
		k.done.Errors[j.Status&15]++
		return
	}
	k.done.Packets++
	k.done.Bytes += uint64(j.Len)
}

// accept counts a genuine packet, if the SA may carry it, and makes the inner one of
// it.
func (k *keeper) accept(s *session.Session, j *sal.Job, inner uint32) {
	n := uint64(inner)
	switch {
	case k.hard.Packets != 0 && k.packets >= k.hard.Packets:
		k.tell(s, toldHardPackets, sal.EventHardPackets, j.SA, k.packets)
		j.Status = sal.StatusExpired
		return
	case k.hard.Bytes != 0 && k.bytes+n > k.hard.Bytes:
		k.tell(s, toldHardBytes, sal.EventHardBytes, j.SA, k.bytes)
		j.Status = sal.StatusExpired
		return
	}
	k.packets++
	k.bytes += n
	j.Flags = k.softly(s, j.SA, k.packets)
	j.Desc = sal.MakeDesc(j.Desc.Buf(), j.Off+uint16(k.Prefix), uint16(inner))
	j.Len = uint16(inner)
}
