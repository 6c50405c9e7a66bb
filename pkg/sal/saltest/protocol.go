package saltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"

	"testing"

	"vrouter/pkg/esp"
	"vrouter/pkg/sal"
)

// The tests of this file are of sal.ModeProtocol. What a packet should look like is
// worked out here once more, byte by byte (espPacket), with the cipher of the standard
// library.

// tunnel makes a config one for sal.ModeProtocol.
func tunnel(c sal.SAConfig, dir sal.Direction, v6, udp bool) sal.SAConfig {
	c.Mode, c.Direction = sal.ModeProtocol, dir
	c.Local, c.Remote = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.2")
	if v6 {
		c.Local, c.Remote = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:ffff::2")
	}
	if udp {
		c.LocalPort, c.RemotePort = 4500, 40500
	}
	if dir == sal.Inbound {
		c.ReplayWindow = 64
		c.Local, c.Remote = c.Remote, c.Local // what one end sends, the other gets
		c.LocalPort, c.RemotePort = c.RemotePort, c.LocalPort
	}
	return c
}

// ipPacket is an IP packet of n bytes.
func ipPacket(v6 bool, n int, tos byte, df bool) []byte {
	b := pattern(n)
	if v6 {
		binary.BigEndian.PutUint32(b, 6<<28|uint32(tos)<<20|0xabcde)
		binary.BigEndian.PutUint16(b[4:], uint16(n-40))
		b[6], b[7] = 253, 17
		return b
	}
	b[0], b[1], b[8], b[9], b[6], b[7] = 0x45, tos, 17, 253, 0, 0
	if df {
		b[6] = 0x40
	}
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	checksum4(b)
	return b
}

func checksum4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sum(b[:20], 0))
}

// sum is the Internet checksum's sum (RFC 1071).
func sum(b []byte, s uint32) uint16 {
	for i, x := range b {
		s += uint32(x) << (8 * (^i & 1))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// espText is the text around an inner packet: RFC 4303 sections 2.4 to 2.6.
func espText(align int, inner []byte, next byte) []byte {
	text := bytes.Clone(inner)
	pad := byte(0)
	for ; (len(text)+2)%align != 0; pad++ {
		text = append(text, pad+1)
	}
	return append(text, pad, next)
}

// espPacket is what an outbound SA makes of a text, by itself: outer header, UDP, ESP.
// The flow label of IPv6 is 0, and the checksum of UDP.
func espPacket(c *sal.SAConfig, seq uint64, iv, text []byte, tos byte, df bool) []byte {
	body := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, c.SPI), uint32(seq))
	body = append(body, espReference(c, uint32(seq), uint32(seq>>32), iv, text)...)
	proto := byte(50)
	if c.LocalPort != 0 {
		proto = 17
		u := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, c.LocalPort), c.RemotePort)
		u = binary.BigEndian.AppendUint16(u, uint16(len(body)+8))
		body = append(append(u, 0, 0), body...)
	}
	if c.Local.Is6() {
		h := binary.BigEndian.AppendUint32(nil, 6<<28|uint32(tos)<<20)
		h = append(binary.BigEndian.AppendUint16(h, uint16(len(body))), proto, 64)
		return slices.Concat(h, c.Local.AsSlice(), c.Remote.AsSlice(), body)
	}
	h := []byte{0x45, tos, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	binary.LittleEndian.PutUint16(h[4:], uint16(seq)) // whichever, as long as all engines have the same
	if df {
		h[6] = 0x40
	}
	h = slices.Concat(h, c.Local.AsSlice(), c.Remote.AsSlice())
	checksum4(h)
	return append(h, body...)
}

// whole lays a packet into a buffer, to be worked on as a whole.
func (b *bench) whole(sa sal.SA, op sal.Op, buf uint32, packet []byte) sal.Job {
	m := b.buffer(buf)
	for i := range m {
		m[i] = guard(i)
	}
	copy(m[espOff:], packet)
	return sal.Job{SA: sa, Op: op, Status: sal.StatusPending, Desc: sal.MakeDesc(buf, espOff, uint16(len(packet))), Cookie: uint64(buf)}
}

// turn has one packet worked on and gives what became of it; where that is nothing, it
// must be as it was.
func (b *bench) turn(sa sal.SA, op sal.Op, packet []byte, want sal.Status) (sal.Job, []byte) {
	b.Helper()
	j := b.one(b.whole(sa, op, 1, packet))
	got := b.pool.Bytes(j.Desc)
	if j.Status != want {
		b.Fatalf("status %d, want %d", j.Status, want)
	}
	switch want {
	case sal.StatusOK:
	case sal.StatusNoSA, sal.StatusNoRoom, sal.StatusHeld:
		if !bytes.Equal(got, packet) {
			b.Fatalf("status %d, and the packet has changed", want)
		}
	default:
		if len(got) != len(packet) || int(j.Desc.Off()) != espOff {
			b.Fatalf("status %d, and the descriptor has changed", want)
		}
	}
	return j, bytes.Clone(got)
}

// counterIV is the IV of a number; nil where the engine makes it up.
func (s *suite) counterIV(seq uint64) []byte {
	if shape, _ := s.Algorithm.Shape(); shape.Counter || s.IV == 0 {
		return s.iv(seq)
	}
	return nil
}

// testProtocolBytes: every combination of algorithms and headers makes the packets
// that it should, and the other end gets back what was put in.
func testProtocolBytes(b *bench) {
	b.start(4)
	for n, s := range b.suites() {
		v6, udp, in6 := n&1 != 0, n&2 != 0, n&4 != 0
		oc := tunnel(s.SAConfig, sal.Outbound, v6, udp)
		oc.DF = esp.DF(n % 3)
		if n%5 == 0 {
			oc.DSCP = make([]uint8, 64)
			for i := range oc.DSCP {
				oc.DSCP[i] = uint8(63 - i)
			}
		}
		oc.State.Seq = 1<<32 - 20
		if !s.ESN {
			oc.State.Seq = 7000
		}
		ic := tunnel(s.SAConfig, sal.Inbound, v6, udp)
		ic.State.Seq = oc.State.Seq
		out, in := b.add(0, oc), b.add(0, ic)
		seq := oc.State.Seq
		for _, size := range []int{40, 41, 42, 43, 44, 45, 63, 64, 65, 100, 576, 1400, 1420, 40, 40, 40, 40, 40, 40, 40, 41, 42} {
			seq++
			tos, df := byte(size*7)&^3|byte(size)&3, size&1 != 0
			inner := ipPacket(in6, size, tos, df)
			j, got := b.turn(out, sal.Encap, inner, sal.StatusOK)
			want4 := map[esp.DF]bool{esp.CopyDF: df || in6, esp.ClearDF: false, esp.SetDF: true}[oc.DF]
			wantTOS := tos
			if oc.DSCP != nil {
				wantTOS = (63-tos>>2)<<2 | tos&3
			}
			hl := len(got) - len(espPacket(&oc, seq, make([]byte, s.IV), espText(s.Align, inner, 4), 0, false))
			if hl != 0 || int(j.Len) != size || j.SeqHi != uint32(seq>>32) {
				b.Fatalf("%v: %d bytes too many around %d; %+v", s, hl, size, j)
			}
			esp := got[int(j.Off)-int(j.Desc.Off()):]
			iv := s.counterIV(seq)
			if iv == nil {
				iv = esp[8 : 8+s.IV]
			}
			next := byte(4)
			if in6 {
				next = 41
			}
			want := espPacket(&oc, seq, iv, espText(s.Align, inner, next), wantTOS, want4)
			onWire := bytes.Clone(got)
			if v6 {
				if binary.BigEndian.Uint32(got)&0xfffff == 0 {
					b.Fatal("no flow label")
				}
				got[1], got[2], got[3] = got[1]&0xf0, 0, 0
				if udp {
					if x := sum(got[40:], uint32(sum(got[8:40], uint32(len(got)-40+17)))); x != 0xffff || got[46] == 0 && got[47] == 0 {
						b.Fatalf("UDP checksum %x is wrong", got[46:48])
					}
					got[46], got[47] = 0, 0
				}
			}
			if !bytes.Equal(got, want) {
				b.Fatalf("%v, v6 %v, UDP %v, %d bytes:\n%x, want\n%x", s, v6, udp, size, got, want)
			}
			j, got = b.turn(in, sal.Decap, onWire, sal.StatusOK)
			if !bytes.Equal(got, inner) || int(j.Len) != size || j.SeqHi != uint32(seq>>32) {
				b.Fatalf("%v: %d bytes came back as\n%x, want\n%x", s, size, got, inner)
			}
			if x := b.buffer(1)[j.Off+4:]; binary.BigEndian.Uint32(x) != uint32(seq) {
				b.Fatalf("%v: number %x at Off", s, x[:4])
			}
		}
		for _, h := range []sal.SA{out, in} {
			st, err := b.s.Stats(h)
			state, err2 := b.s.State(h)
			if err != nil || err2 != nil || st.Packets != 22 || state.Packets != 22 || st.Bytes != state.Bytes || state.Seq != seq {
				b.Fatalf("%v: %+v %+v %v %v, at %d", s, st, state, err, err2, seq)
			}
			if err := b.s.DelSA(h); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// protocolPair is an SA of AES-GCM, both ends.
func (b *bench) protocolPair(esn bool, change func(*sal.SAConfig)) (out, in sal.SA, oc sal.SAConfig) {
	b.Helper()
	c := gcm(9, b.algorithm().KeyBits[0])
	c.ESN = esn
	oc = tunnel(c, sal.Outbound, false, false)
	ic := tunnel(c, sal.Inbound, false, false)
	if change != nil {
		change(&oc)
		change(&ic)
	}
	return b.add(0, oc), b.add(0, ic), oc
}

// wire is a packet as the other end sends it.
func wire(c *sal.SAConfig, seq uint64, text []byte, tos byte) []byte {
	iv := binary.BigEndian.AppendUint64(nil, seq)
	return espPacket(c, seq, iv, text, tos, true)
}

// testProtocolReplay: what a window is for, one packet at a time and with copies side
// by side in the engine; forged packets do not move it.
func testProtocolReplay(b *bench) {
	b.start(64)
	_, in, c := b.protocolPair(b.caps.ESN, nil)
	inner := ipPacket(false, 60, 0, false)
	packet := func(seq uint64) []byte { return wire(&c, seq, espText(4, inner, 4), 0) }
	for _, x := range []struct {
		seq  uint64
		want sal.Status
	}{{100, sal.StatusOK}, {100, sal.StatusReplay}, {37, sal.StatusOK}, {37, sal.StatusReplay}, {101, sal.StatusOK}, {37, sal.StatusLate},
		{99, sal.StatusOK}, {150, sal.StatusOK}, {99, sal.StatusReplay}, {151, sal.StatusOK}} {
		if x.want == sal.StatusLate && c.ESN {
			x.want = sal.StatusBadICV // taken for one of the next 2^32
		}
		b.turn(in, sal.Decap, packet(x.seq), x.want)
	}
	bad := packet(100000)
	bad[len(bad)-1] ^= 1
	b.turn(in, sal.Decap, bad, sal.StatusBadICV)
	b.turn(in, sal.Decap, packet(152), sal.StatusOK)
	jobs := make([]sal.Job, 60)
	for i := range jobs {
		jobs[i] = b.whole(in, sal.Decap, uint32(i), packet(200+uint64(i%20)))
	}
	b.run(jobs)
	var n [16]int
	for i := range jobs {
		if n[jobs[i].Status&15]++; (jobs[i].Status == sal.StatusOK) != (i < 20) {
			b.Errorf("copy %d of number %d has status %d", i/20, 200+i%20, jobs[i].Status)
		}
	}
	st, err := b.s.Stats(in)
	if err != nil || n[sal.StatusReplay] != 40 || st.Packets != 27 || st.Errors[sal.StatusReplay] != 43 || st.Errors[sal.StatusBadICV]+st.Errors[sal.StatusLate] != 2 {
		b.Errorf("%v; %+v %v", n, st, err)
	}
}

// testProtocolErrors: every way in which one packet can be wrong, under its own status;
// none moves the window or uses a number.
func testProtocolErrors(b *bench) {
	b.start(8)
	out, in, c := b.protocolPair(false, nil)
	crypto := b.add(0, gcm(3, b.algorithm().KeyBits[0]))
	good := ipPacket(false, 60, 0, false)
	text := func(edit func([]byte)) []byte {
		t := espText(4, good, 4)
		edit(t)
		return wire(&c, 5, t, 0)
	}
	cut := func(p []byte, n int) []byte {
		p = bytes.Clone(p[:n])
		binary.BigEndian.PutUint16(p[2:], uint16(n))
		checksum4(p)
		return p
	}
	sealed := wire(&c, 5, espText(4, good, 4), 0)
	lying := bytes.Clone(sealed)
	lying[3]++
	checksum4(lying)
	spi := bytes.Clone(sealed)
	spi[23]++
	udp := bytes.Clone(sealed)
	udp[9] = 17
	checksum4(udp)
	dst := ipPacket(true, 60, 0, false)
	ce := wire(&c, 5, espText(4, good, 4), 3)
	for name, x := range map[string]struct {
		sa     sal.SA
		op     sal.Op
		packet []byte
		want   sal.Status
	}{
		"inbound SA asked to encapsulate": {in, sal.Encap, good, sal.StatusNoSA},
		"outbound SA asked for the other": {out, sal.Decap, sealed, sal.StatusNoSA},
		"SA in mode crypto":               {crypto, sal.Encap, good, sal.StatusNoSA},
		"no SA":                           {4711, sal.Encap, good, sal.StatusNoSA},
		"seal, in mode protocol":          {out, sal.Seal, good, sal.StatusNoSA},
		"open, in mode protocol":          {in, sal.Open, sealed, sal.StatusNoSA},
		"of another SPI":                  {in, sal.Decap, spi, sal.StatusNoSA},
		"no IP":                           {out, sal.Encap, make([]byte, 60), sal.StatusShort},
		"shorter than it says":            {out, sal.Encap, good[:59], sal.StatusShort},
		"longer than it says":             {out, sal.Encap, append(bytes.Clone(good), 0), sal.StatusShort},
		"IPv6, shorter than it says":      {out, sal.Encap, dst[:59], sal.StatusShort},
		"a header alone":                  {in, sal.Decap, cut(sealed, 20), sal.StatusShort},
		"SPI and number alone":            {in, sal.Decap, cut(sealed, 28), sal.StatusShort},
		"no text":                         {in, sal.Decap, cut(sealed, 52), sal.StatusShort},
		"a length that AES-GCM has not":   {in, sal.Decap, cut(sealed, len(sealed)-1), sal.StatusShort},
		"outer length a lie":              {in, sal.Decap, lying, sal.StatusShort},
		"UDP where there is none":         {in, sal.Decap, udp, sal.StatusShort},
		"tail cut off":                    {in, sal.Decap, cut(sealed, len(sealed)-4), sal.StatusBadICV},
		"wrong padding":                   {in, sal.Decap, text(func(t []byte) { t[60] = 9 }), sal.StatusBadPad},
		"padding longer than the text":    {in, sal.Decap, text(func(t []byte) { t[len(t)-2] = 255 }), sal.StatusBadPad},
		"next header TCP":                 {in, sal.Decap, text(func(t []byte) { t[len(t)-1] = 6 }), sal.StatusBadNext},
		"next header IPv6":                {in, sal.Decap, text(func(t []byte) { t[len(t)-1] = 41 }), sal.StatusBadNext},
		"dummy":                           {in, sal.Decap, text(func(t []byte) { t[len(t)-1] = 59 }), sal.StatusDummy},
		"inner packet shorter than said":  {in, sal.Decap, text(func(t []byte) { t[3] = 200 }), sal.StatusShort},
		"marked outside only":             {in, sal.Decap, ce, sal.StatusBadECN},
	} {
		before, _ := b.s.State(in)
		b.T.Run(name, func(t *testing.T) {
			sub := *b
			sub.T = t
			sub.turn(x.sa, x.op, x.packet, x.want)
		})
		// A packet whose ICV is right has come, whatever is in it.
		genuine := x.want == sal.StatusBadPad || x.want == sal.StatusBadNext || x.want == sal.StatusDummy || x.want == sal.StatusBadECN || name == "inner packet shorter than said"
		after, err := b.s.State(in)
		if err != nil || (after.Seq == 5) != (genuine || before.Seq == 5) {
			b.Fatalf("%s: the window was at %d and is at %d; %v", name, before.Seq, after.Seq, err)
		}
		if _, err := b.s.Hold(in); err != nil {
			b.Fatal(err)
		}
		if err := b.s.ModSA(in, &sal.SAMod{State: &sal.SAState{}}); err != nil {
			b.Fatal(err)
		}
	}
	// No room: before and behind the packet, in a buffer of either kind.
	for _, off := range []int{35, int(sal.BufSize) - 60 - 20} {
		j := b.whole(out, sal.Encap, 1, nil)
		copy(b.buffer(1)[off:], good)
		j.Desc = sal.MakeDesc(1, uint16(off), uint16(len(good)))
		if j = b.one(j); j.Status != sal.StatusNoRoom || !bytes.Equal(b.pool.Bytes(j.Desc), good) {
			b.Errorf("at %d: status %d", off, j.Status)
		}
	}
	if st, err := b.s.State(out); err != nil || st.Seq != 0 || st.Packets != 0 || st.Bytes != 0 {
		b.Errorf("packets that were refused have used numbers: %+v %v", st, err)
	}
	if ok, _ := b.turn(out, sal.Encap, good, sal.StatusOK); ok.SeqHi != 0 {
		b.Errorf("%+v", ok)
	}
}

// testProtocolEnds: lifetimes and the end of the numbers, each with its events, once.
func testProtocolEnds(b *bench) {
	b.start(8)
	inner := ipPacket(false, 100, 0, false)
	type ends struct {
		name   string
		change func(*sal.SAConfig)
		out    int        // packets that pass
		soft   int        // the first that is flagged, 0: none
		last   sal.Status // of the next
		in     bool       // it is so for inbound SAs
		events []sal.EventKind
	}
	for _, x := range []ends{
		{"packets", func(c *sal.SAConfig) { c.Soft.Packets, c.Hard.Packets = 3, 5 }, 5, 3, sal.StatusExpired, true, []sal.EventKind{sal.EventSoftPackets, sal.EventHardPackets}},
		{"bytes", func(c *sal.SAConfig) { c.Soft.Bytes, c.Hard.Bytes = 150, 399 }, 3, 2, sal.StatusExpired, true, []sal.EventKind{sal.EventSoftBytes, sal.EventHardBytes}},
		{"bytes that were there", func(c *sal.SAConfig) { c.Hard.Bytes, c.State.Bytes = 1000, 800 }, 2, 0, sal.StatusExpired, true, []sal.EventKind{sal.EventHardBytes}},
		{"numbers", func(c *sal.SAConfig) { c.State.Seq = math.MaxUint32 - 4 }, 4, 0, sal.StatusSeqOverflow, false, []sal.EventKind{sal.EventSeqOverflow}},
		{"leash", func(c *sal.SAConfig) { c.State.Seq, c.State.SeqLimit = 10, 14 }, 4, 0, sal.StatusHeld, false, nil},
		{"reports", func(c *sal.SAConfig) { c.SeqReport, c.Hard.Packets = 2, 5 }, 5, 0, sal.StatusExpired, false,
			[]sal.EventKind{sal.EventSeqPeriodic, sal.EventSeqPeriodic, sal.EventHardPackets}},
	} {
		for _, inbound := range []bool{false, true} {
			if inbound && !x.in {
				continue
			}
			out, in, c := b.protocolPair(false, x.change)
			for n := 1; n <= x.out+2; n++ {
				h, op, p := out, sal.Encap, inner
				if inbound {
					h, op, p = in, sal.Decap, wire(&c, uint64(n), espText(4, inner, 4), 0)
				}
				want := sal.StatusOK
				if n > x.out {
					want = x.last
				}
				j, _ := b.turn(h, op, p, want)
				if soft := j.Flags&sal.Soft != 0; soft != (x.soft > 0 && n >= x.soft && n <= x.out) {
					b.Errorf("%s: packet %d: flags %d", x.name, n, j.Flags)
				}
				if low := j.Flags&sal.SeqLow != 0; low != (x.name == "leash" && (n == 3 || n == 4)) {
					b.Errorf("%s: packet %d: flags %d", x.name, n, j.Flags)
				}
			}
			var got []sal.EventKind
			for more := true; more; {
				select {
				case e := <-b.s.Events():
					if got = append(got, e.Kind); e.SPI != c.SPI || e.SA != out && e.SA != in || e.Value == 0 {
						b.Errorf("%s: event %+v", x.name, e)
					}
				default:
					more = false
				}
			}
			if !slices.Equal(got, x.events) {
				b.Errorf("%s, inbound %v: events %v, want %v", x.name, inbound, got, x.events)
			}
			for _, h := range []sal.SA{out, in} {
				if err := b.s.DelSA(h); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}

// testProtocolHold: an SA that is held uses no number and goes on, elsewhere too, where
// it was: the numbers, and what its window has seen.
func testProtocolHold(b *bench) {
	b.start(8)
	inner := ipPacket(false, 60, 0, false)
	out, in, c := b.protocolPair(b.caps.ESN, func(c *sal.SAConfig) { c.Held = true })
	packet := func(seq uint64) []byte { return wire(&c, seq, espText(4, inner, 4), 0) }
	b.turn(out, sal.Encap, inner, sal.StatusHeld)
	b.turn(in, sal.Decap, packet(1), sal.StatusHeld)
	mod := func(h sal.SA, m sal.SAMod, want error) {
		b.Helper()
		if err := b.s.ModSA(h, &m); !errors.Is(err, want) {
			b.Fatalf("%v, want %v", err, want)
		}
	}
	limit := uint64(102)
	mod(out, sal.SAMod{State: &sal.SAState{Seq: 100, SeqLimit: 99}}, sal.ErrInvalid)
	mod(out, sal.SAMod{State: &sal.SAState{Seq: 100, SeqLimit: 101}}, nil)
	mod(out, sal.SAMod{State: &sal.SAState{Seq: 1}}, sal.ErrInvalid)
	mod(in, sal.SAMod{State: &sal.SAState{Seq: 70, Window: []uint64{0b101}}}, nil)
	b.turn(out, sal.Encap, inner, sal.StatusOK)
	b.turn(out, sal.Encap, inner, sal.StatusHeld)
	mod(out, sal.SAMod{SeqLimit: &limit}, nil)
	if j, p := b.turn(out, sal.Encap, inner, sal.StatusOK); binary.BigEndian.Uint32(p[24:]) != 102 || j.Flags&sal.SeqLow == 0 {
		b.Errorf("number %d, flags %d", binary.BigEndian.Uint32(p[24:]), j.Flags)
	}
	for _, x := range []struct {
		seq  uint64
		want sal.Status
	}{{70, sal.StatusReplay}, {68, sal.StatusReplay}, {69, sal.StatusOK}, {71, sal.StatusOK}} {
		b.turn(in, sal.Decap, packet(x.seq), x.want)
	}
	state, err := b.s.Hold(out)
	window, err2 := b.s.Hold(in)
	if err != nil || err2 != nil || state.Seq != 102 || state.SeqLimit != 102 || window.Seq != 71 || len(window.Window) != 1 || window.Window[0]&0b1111 != 0b1111 {
		b.Fatalf("%+v %v, %+v %v", state, err, window, err2)
	}
	b.turn(out, sal.Encap, inner, sal.StatusHeld)
	b.turn(in, sal.Decap, packet(72), sal.StatusHeld)
	out2, in2, _ := b.protocolPair(c.ESN, func(c *sal.SAConfig) {
		if c.State = window; c.Direction == sal.Outbound {
			c.State = state
			c.State.SeqLimit = 0
		}
	})
	if _, p := b.turn(out2, sal.Encap, inner, sal.StatusOK); binary.BigEndian.Uint32(p[24:]) != 103 {
		b.Errorf("number %d after 102", binary.BigEndian.Uint32(p[24:]))
	}
	b.turn(in2, sal.Decap, packet(71), sal.StatusReplay)
	b.turn(in2, sal.Decap, packet(20), sal.StatusOK)
	b.turn(in2, sal.Decap, packet(72), sal.StatusOK)
	for name, f := range map[string]func(sal.SA) (sal.SAState, error){"State": b.s.State, "Hold": b.s.Hold} {
		if _, err := f(4711); !errors.Is(err, sal.ErrNotFound) {
			b.Errorf("%s of an SA that is not there: %v", name, err)
		}
		if h := b.add(0, gcm(2, b.algorithm().KeyBits[0])); true {
			if _, err := f(h); !errors.Is(err, sal.ErrNotSupported) {
				b.Errorf("%s of an SA in mode crypto: %v", name, err)
			}
		}
	}
}

// testProtocolRefusals: what cannot be is refused when it is added.
func testProtocolRefusals(b *bench) {
	b.start(4)
	bits := b.algorithm().KeyBits[0]
	for name, change := range map[string]func(*sal.SAConfig){
		"no address":       func(c *sal.SAConfig) { c.Remote = netip.Addr{} },
		"two families":     func(c *sal.SAConfig) { c.Remote = netip.MustParseAddr("2001:db8::9") },
		"multicast":        func(c *sal.SAConfig) { c.Local = netip.MustParseAddr("224.0.0.1") },
		"one port":         func(c *sal.SAConfig) { c.LocalPort = 4500 },
		"DSCPs":            func(c *sal.SAConfig) { c.DSCP = make([]uint8, 63) },
		"a DSCP of 7 bits": func(c *sal.SAConfig) { c.DSCP = append(make([]uint8, 63), 64) },
		"DF":               func(c *sal.SAConfig) { c.DF = 3 },
		"window":           func(c *sal.SAConfig) { c.Direction, c.ReplayWindow = sal.Inbound, 31 },
		"wide window":      func(c *sal.SAConfig) { c.Direction, c.ReplayWindow = sal.Inbound, uint32(b.caps.WindowMax)+1 },
		"ESN, no window":   func(c *sal.SAConfig) { c.Direction, c.ESN = sal.Inbound, true },
		"number":           func(c *sal.SAConfig) { c.State.Seq = 1 << 32 },
		"leash":            func(c *sal.SAConfig) { c.State.Seq, c.State.SeqLimit = 9, 8 },
		"SPI 0":            func(c *sal.SAConfig) { c.SPI = 0 },
		"key":              func(c *sal.SAConfig) { c.Key = c.Key[1:] },
	} {
		c := tunnel(gcm(1, bits), sal.Outbound, false, false)
		change(&c)
		if h, err := b.s.AddSA(0, &c); h != 0 || !errors.Is(err, sal.ErrInvalid) && !errors.Is(err, sal.ErrNotSupported) {
			b.Errorf("%s: SA %d, %v", name, h, err)
		}
	}
}
