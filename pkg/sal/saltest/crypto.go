package saltest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrouter/pkg/sal"
)

// testKnownAnswers seals and opens every vector, in every way.
func testKnownAnswers(b *bench) {
	bits := b.algorithm().KeyBits
	b.start(4)
	done := map[string]int{}
	for _, v := range Vectors() {
		kb := (len(v.Key) - 4) * 8
		if !slices.Contains(bits, kb) || v.ESN && !b.caps.ESN {
			continue
		}
		c := gcm(1, kb)
		c.Key, c.ESN = v.Key, v.ESN
		out, in := b.pair(c)
		for way, run := range b.ways() {
			j := []sal.Job{b.packet(out, sal.Seal, 1, espOff, v.SPI, v.Seq, v.IV, v.Text)}
			j[0].SeqHi = v.SeqHi
			run(j)
			if j[0].Status != sal.StatusOK {
				b.Fatalf("%s: seal: status %d", v.Name, j[0].Status)
			}
			sealed := bytes.Clone(b.result(&j[0]))
			if v.Out != nil && !bytes.Equal(sealed, v.Out) || !bytes.Equal(sealed[len(v.Text):], v.ICV) {
				b.Errorf("%s %s: sealed to\n%x, want\n%x %x", v.Name, way, sealed, v.Out, v.ICV)
			}
			j = []sal.Job{b.packet(in, sal.Open, 1, espOff, v.SPI, v.Seq, v.IV, sealed)}
			j[0].SeqHi = v.SeqHi
			run(j)
			if j[0].Status != sal.StatusOK || !bytes.Equal(b.result(&j[0]), v.Text) {
				b.Errorf("%s %s: opened with status %d to\n%x", v.Name, way, j[0].Status, b.result(&j[0]))
			}
		}
		done[fmt.Sprint(kb, v.ESN)]++
		b.s.DelSA(out)
		b.s.DelSA(in)
	}
	if len(done) == 0 {
		b.Error("no vector fits the engine's capabilities")
	}
	b.Logf("vectors by key size and ESN: %v", done)
}

// testLengths runs every length of text that a buffer takes, at four offsets.
func testLengths(b *bench) {
	bits := b.algorithm().KeyBits
	b.start(4)
	for _, kb := range bits {
		c := gcm(uint32(kb), kb)
		out, in := b.pair(c)
		for n := 0; n <= sal.BufSize-espOff-espLen-ivLen-icvLen; n++ {
			if n > 300 && n%37 != 0 && n < 1900 {
				continue
			}
			off := espOff - n&3*7
			text := pattern(n)
			j := b.one(b.packet(out, sal.Seal, 1, off, c.SPI, uint32(n), uint64(n)*3, text))
			if j.Status != sal.StatusOK {
				b.Fatalf("length %d: seal: status %d", n, j.Status)
			}
			sealed := bytes.Clone(b.result(&j))
			if want := reference(c.Key, uint64(n)*3, aad(false, c.SPI, 0, uint32(n)), text); !bytes.Equal(sealed, want) {
				b.Fatalf("length %d at %d: sealed to\n%x, want\n%x", n, off, sealed, want)
			}
			j = b.one(b.packet(in, sal.Open, 1, off, c.SPI, uint32(n), uint64(n)*3, sealed))
			if j.Status != sal.StatusOK || !bytes.Equal(b.result(&j), text) {
				b.Fatalf("length %d: opened with status %d", n, j.Status)
			}
		}
	}
}

// testMixed runs bursts of all sizes with keys, directions, lengths and faults
// at random, and compares each packet with what the standard library says.
func testMixed(b *bench) {
	bits := b.algorithm().KeyBits
	b.start(sal.Burst)
	r := rand.New(rand.NewPCG(1, 2))
	type sa struct {
		c       sal.SAConfig
		out, in sal.SA
	}
	var sas []sa
	for i := range 24 {
		c := gcm(uint32(i), bits[i%len(bits)])
		c.ESN = b.caps.ESN && i&1 == 0
		out, in := b.pair(c)
		sas = append(sas, sa{c, out, in})
	}
	for round, size := range []int{1, 2, 7, 8, 9, 64, sal.Burst, sal.Burst} {
		for way, run := range b.ways() {
			jobs := make([]sal.Job, size)
			want := make([][]byte, size) // nil: the ICV must be found wrong
			for i := range jobs {
				s := &sas[r.IntN(len(sas))]
				text := pattern(r.IntN(1800))
				seq, hi, iv := r.Uint32(), r.Uint32(), r.Uint64()
				sealed := reference(s.c.Key, iv, aad(s.c.ESN, s.c.SPI, hi, seq), text)
				off := 100 + r.IntN(100)
				switch r.IntN(5) {
				case 0, 1:
					jobs[i], want[i] = b.packet(s.out, sal.Seal, uint32(i), off, s.c.SPI, seq, iv, text), sealed
				case 2, 3:
					jobs[i], want[i] = b.packet(s.in, sal.Open, uint32(i), off, s.c.SPI, seq, iv, sealed), text
				default:
					sealed[r.IntN(len(sealed))] ^= 1 << r.IntN(8)
					jobs[i] = b.packet(s.in, sal.Open, uint32(i), off, s.c.SPI, seq, iv, sealed)
				}
				jobs[i].SeqHi = hi
				jobs[i].Cookie = uint64(i)
			}
			asked := slices.Clone(jobs)
			run(jobs)
			for i := range jobs {
				j := &jobs[i]
				switch {
				case want[i] == nil && j.Status != sal.StatusBadICV, want[i] != nil && j.Status != sal.StatusOK:
					b.Fatalf("round %d %s, job %d: status %d", round, way, i, j.Status)
				case want[i] != nil && !bytes.Equal(b.result(j), want[i]):
					b.Fatalf("round %d %s, job %d: other bytes than the standard library's", round, way, i)
				}
				// The rest of a job comes back as it was.
				same := *j
				same.Status, same.Flags = asked[i].Status, asked[i].Flags
				if same != asked[i] {
					b.Fatalf("job came back as %+v, was %+v", *j, asked[i])
				}
			}
		}
	}
}

// testBadICV changes every bit of what the ICV covers.
func testBadICV(b *bench) {
	b.algorithm()
	b.start(4)
	for _, esn := range []bool{false, true} {
		if esn && !b.caps.ESN {
			continue
		}
		c := gcm(1, b.algorithm().KeyBits[0])
		c.ESN = esn
		out, in := b.pair(c)
		const seq, hi, iv = 77, 5, 1 << 40
		text := pattern(64)
		j := b.packet(out, sal.Seal, 1, espOff, c.SPI, seq, iv, text)
		j.SeqHi = hi
		j = b.one(j)
		sealed := bytes.Clone(b.result(&j))
		bad := uint64(0)
		try := func(what string, spoil func(p []byte, j *sal.Job)) {
			j := b.packet(in, sal.Open, 1, espOff, c.SPI, seq, iv, sealed)
			j.SeqHi = hi
			spoil(b.buffer(1)[espOff:], &j)
			cipherText := bytes.Clone(b.buffer(1)[espOff+espLen+ivLen:][:j.Len])
			j = b.one(j)
			bad++
			if j.Status != sal.StatusBadICV {
				b.Fatalf("ESN %v, %s changed: status %d", esn, what, j.Status)
			}
			left := b.buffer(1)[espOff+espLen+ivLen:][:j.Len]
			if !bytes.Equal(left, cipherText) && !bytes.Equal(left, make([]byte, j.Len)) {
				b.Fatalf("ESN %v, %s changed: the bytes are neither wiped nor as they came", esn, what)
			}
		}
		for bit := range (espLen + ivLen + len(sealed)) * 8 {
			try(fmt.Sprintf("bit %d of the packet", bit), func(p []byte, _ *sal.Job) { p[bit/8] ^= 1 << (bit & 7) })
		}
		if esn {
			for bit := range 32 {
				try("upper half of the sequence number", func(_ []byte, j *sal.Job) { j.SeqHi ^= 1 << bit })
			}
		}
		try("length", func(_ []byte, j *sal.Job) { j.Len -= 4 })
		// Nothing is wrong with the packet itself, and an SA without ESN does
		// not look at SeqHi.
		j = b.packet(in, sal.Open, 1, espOff, c.SPI, seq, iv, sealed)
		if j.SeqHi = hi; !esn {
			j.SeqHi = 0xffff
		}
		if j = b.one(j); j.Status != sal.StatusOK || !bytes.Equal(b.result(&j), text) {
			b.Errorf("the unchanged packet: status %d", j.Status)
		}
		st, err := b.s.Stats(in)
		if err != nil || st.Errors[sal.StatusBadICV] != bad || st.Packets != 1 {
			b.Errorf("%d bad ICVs and a good one: stats %+v, %v", bad, st, err)
		}
	}
}

// testNoSA asks for SAs that are not there, or for what they do not do.
func testNoSA(b *bench) {
	b.start(4)
	c := gcm(1, b.algorithm().KeyBits[0])
	out, in := b.pair(c)
	gone := b.add(0, gcm(2, b.algorithm().KeyBits[0]))
	if err := b.s.DelSA(gone); err != nil {
		b.Fatal(err)
	}
	for name, x := range map[string]struct {
		sa sal.SA
		op sal.Op
	}{
		"zero": {0, sal.Seal}, "never given": {100000, sal.Seal}, "huge": {^sal.SA(0), sal.Open}, "deleted": {gone, sal.Seal},
		"seal with an inbound SA": {in, sal.Seal}, "open with an outbound SA": {out, sal.Open},
	} {
		text := pattern(64)
		j := b.one(b.packet(x.sa, x.op, 1, espOff, c.SPI, 1, 1, text))
		if j.Status != sal.StatusNoSA {
			b.Errorf("%s: status %d", name, j.Status)
		}
		if x.op == sal.Seal && !bytes.Equal(b.buffer(1)[espOff+16:][:64], text) {
			b.Errorf("%s: the packet was changed", name)
		}
	}
}

// testNoRoom has packets that do not fit their buffers.
func testNoRoom(b *bench) {
	b.start(4)
	c := gcm(1, b.algorithm().KeyBits[0])
	out, in := b.pair(c)
	for _, x := range []struct{ off, n int }{{sal.BufSize - 24, 64}, {espOff, 2000}, {65000, 64}, {espOff, 65535}, {65535, 65535}, {sal.BufSize - 31, 0}} {
		for sa, op := range map[sal.SA]sal.Op{out: sal.Seal, in: sal.Open} {
			before := bytes.Clone(b.buffer(2))
			j := b.one(sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(1, uint16(x.off), 64), Off: uint16(x.off), Len: uint16(x.n)})
			if j.Status != sal.StatusNoRoom {
				b.Errorf("%d bytes at %d: status %d", x.n, x.off, j.Status)
			}
			if !bytes.Equal(before, b.buffer(2)) {
				b.Fatal("the next buffer was changed")
			}
		}
	}
	if j := b.one(sal.Job{SA: out, Op: sal.Seal, Desc: sal.MakeDesc(1<<31, 0, 64), Off: espOff, Len: 64}); j.Status == sal.StatusOK {
		b.Error("a buffer that is not in the pool")
	}
}

// testKeyIsCopied wipes the key that AddSA was given.
func testKeyIsCopied(b *bench) {
	b.start(4)
	c := gcm(9, b.algorithm().KeyBits[0])
	key := bytes.Clone(c.Key)
	h := b.add(0, c)
	clear(c.Key)
	j := b.one(b.packet(h, sal.Seal, 1, espOff, c.SPI, 1, 1, pattern(64)))
	if !bytes.Equal(b.result(&j), reference(key, 1, aad(false, c.SPI, 0, 1), pattern(64))) {
		b.Error("the engine uses the caller's copy of the key")
	}
}

// testStats counts packets and bytes.
func testStats(b *bench) {
	b.start(64)
	c := gcm(1, b.algorithm().KeyBits[0])
	x, y := b.add(0, c), b.add(0, gcm(2, b.algorithm().KeyBits[0]))
	jobs := make([]sal.Job, 64)
	bytes := uint64(0)
	for i := range jobs {
		jobs[i] = b.packet(x, sal.Seal, uint32(i), espOff, c.SPI, uint32(i), uint64(i), pattern(i))
		bytes += uint64(i)
	}
	b.run(jobs)
	if st, err := b.s.Stats(x); err != nil || st.Packets != 64 || st.Bytes != bytes || st.Errors != [16]uint64{} {
		b.Errorf("%+v, %v", st, err)
	}
	if st, err := b.s.Stats(y); err != nil || st != (sal.SAStats{}) {
		b.Errorf("an SA without packets: %+v, %v", st, err)
	}
	if _, err := b.s.Stats(12345); err == nil {
		b.Error("stats of an SA that is not there")
	}
}

// testOrder keeps the queue full with jobs of several SAs: those of one SA come
// back in the order they went.
func testOrder(b *bench) {
	const total = 20000
	b.algorithm()
	b.start(sal.Burst)
	var sas []sal.SA
	for i := range 5 {
		sas = append(sas, b.add(0, gcm(uint32(i), b.algorithm().KeyBits[0])))
	}
	free := make([]uint32, sal.Burst)
	for i := range free {
		free[i] = uint32(i)
	}
	r := rand.New(rand.NewPCG(3, 4))
	next := map[sal.SA]uint64{} // number of the next job by SA
	due := map[sal.SA]uint64{}
	var out, jobs [64]sal.Job
	full := false
	sent, back := 0, 0
	for end := time.Now().Add(patience); back < total; {
		n := min(r.IntN(len(jobs)), len(free), total-sent)
		for i := range jobs[:n] {
			sa := sas[r.IntN(len(sas))]
			jobs[i] = sal.Job{SA: sa, Op: sal.Seal, Desc: sal.MakeDesc(free[i], 0, 0), Off: espOff, Len: 64, Cookie: next[sa]}
			next[sa]++
		}
		m := b.q.Submit(jobs[:n])
		if m < n {
			full = true
			for i := n - 1; i >= m; i-- { // not taken: their numbers are free again
				next[jobs[i].SA]--
			}
		}
		free = free[m:]
		sent += m
		for _, j := range out[:b.q.Poll(out[:r.IntN(len(out))])] {
			if j.Cookie != due[j.SA] {
				b.Fatalf("job %d of SA %d came when %d was due", j.Cookie, j.SA, due[j.SA])
			}
			due[j.SA]++
			back++
			free = append(free, j.Desc.Buf())
		}
		if time.Now().After(end) {
			b.Fatalf("%d of %d jobs came back", back, total)
		}
	}
	if len(free) != sal.Burst {
		b.Errorf("%d of %d buffers came back", len(free), sal.Burst)
	}
	// A queue that is full says so, and loses nothing.
	if d := b.caps.QueueDepth; !full && d > 0 {
		many := make([]sal.Job, d+1)
		for i := range many {
			many[i] = sal.Job{SA: sas[0], Op: sal.Seal, Off: espOff, Len: 16, Cookie: uint64(i)}
		}
		n := b.q.Submit(many)
		if n > d || b.q.InFlight() != n {
			b.Errorf("a queue of %d jobs took %d, %d in flight", d, n, b.q.InFlight())
		}
		for end := time.Now().Add(patience); b.q.InFlight() > 0 && time.Now().Before(end); {
			b.q.Poll(out[:])
		}
	}
}

// testDelSAInFlight deletes an SA whose jobs have not been polled: they come
// back, and until then the handle is nobody else's.
func testDelSAInFlight(b *bench) {
	b.algorithm()
	b.start(64)
	c := gcm(1, b.algorithm().KeyBits[0])
	h := b.add(0, c)
	jobs := make([]sal.Job, 32)
	for i := range jobs {
		jobs[i] = b.packet(h, sal.Seal, uint32(i), espOff, c.SPI, uint32(i), uint64(i), pattern(64))
		jobs[i].Cookie = uint64(i)
	}
	n := b.q.Submit(jobs)
	if n == 0 {
		b.Fatal("an empty queue takes nothing")
	}
	if err := b.s.DelSA(h); err != nil {
		b.Fatal(err)
	}
	if err := b.s.DelSA(h); err == nil {
		b.Error("deleted twice")
	}
	for i := range 50 {
		if x := b.add(0, gcm(uint32(100+i), b.algorithm().KeyBits[0])); x == h {
			b.Fatal("the handle was given out again while its jobs are in flight")
		}
	}
	var out [8]sal.Job
	back := 0
	for end := time.Now().Add(patience); back < n && time.Now().Before(end); {
		for _, j := range out[:b.q.Poll(out[:])] {
			if j.Status != sal.StatusOK && j.Status != sal.StatusNoSA || j.Cookie != uint64(back) {
				b.Fatalf("job %d came with status %d when %d was due", j.Cookie, j.Status, back)
			}
			if j.Status == sal.StatusOK {
				want := reference(c.Key, j.Cookie, aad(false, c.SPI, 0, uint32(j.Cookie)), pattern(64))
				if !bytes.Equal(b.result(&j), want) {
					b.Fatal("sealed with something else than the key")
				}
			}
			back++
		}
	}
	if back < n {
		b.Fatalf("%d of %d jobs came back", back, n)
	}
	if j := b.one(b.packet(h, sal.Seal, 1, espOff, c.SPI, 1, 1, pattern(64))); j.Status != sal.StatusNoSA {
		b.Errorf("after the deletion: status %d", j.Status)
	}
}

// testDelSAUnderTraffic adds and deletes SAs on one goroutine while another
// uses them: every packet is sealed with the right key, or not at all.
func testDelSAUnderTraffic(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(64)
	c := gcm(5, bits)
	var current atomic.Uint32
	current.Store(uint32(b.add(0, c)))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			n, err := b.s.AddSA(0, &c)
			if err != nil {
				b.Error(err)
				return
			}
			if err := b.s.DelSA(sal.SA(current.Swap(uint32(n)))); err != nil {
				b.Error(err)
				return
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
	defer func() { stop.Store(true); wg.Wait() }()
	ok, lost := 0, 0
	jobs := make([]sal.Job, 64)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		for i := range jobs {
			jobs[i] = b.packet(sal.SA(current.Load()), sal.Seal, uint32(i), espOff, c.SPI, uint32(i), uint64(ok+i), pattern(64))
			jobs[i].Cookie = uint64(ok+i)<<8 | uint64(i)
		}
		b.run(jobs)
		for i := range jobs {
			j := &jobs[i]
			switch j.Status {
			case sal.StatusOK:
				if !bytes.Equal(b.result(j), reference(c.Key, j.Cookie>>8, aad(false, c.SPI, 0, uint32(i)), pattern(64))) {
					b.Fatal("a packet sealed with half a key")
				}
				ok++
			case sal.StatusNoSA:
				if !bytes.Equal(b.buffer(uint32(i))[espOff+16:][:64], pattern(64)) {
					b.Fatal("a packet without an SA was changed")
				}
				lost++
			default:
				b.Fatalf("status %d", j.Status)
			}
		}
	}
	if ok == 0 {
		b.Error("no packet was sealed")
	}
	b.Logf("%d packets sealed, %d without an SA", ok, lost)
}

// testManyQueues uses one SA on several queues at once; its counters add up.
func testManyQueues(b *bench) {
	bits := b.algorithm().KeyBits[0]
	b.start(256)
	n := min(b.caps.Queues, 4)
	if n < 2 {
		b.Skip("the engine has one queue")
	}
	c := gcm(1, bits)
	h := b.add(0, c)
	queues := []sal.Queue{b.q}
	for i := 1; i < n; i++ {
		q, err := b.s.Queue(i, b.pool)
		if err != nil {
			b.Fatal(err)
		}
		defer q.Close()
		queues = append(queues, q)
	}
	const rounds, size = 200, 16
	var wg sync.WaitGroup
	for k, q := range queues {
		x := &bench{T: b.T, d: b.d, caps: b.caps, s: b.s, pool: b.pool, q: q}
		wg.Go(func() {
			jobs := make([]sal.Job, size)
			for r := range rounds {
				for i := range jobs {
					jobs[i] = x.packet(h, sal.Seal, uint32(k*size+i), espOff, c.SPI, uint32(r), uint64(k), pattern(64))
				}
				x.run(jobs)
				for i := range jobs {
					if jobs[i].Status != sal.StatusOK {
						x.Errorf("queue %d: status %d", k, jobs[i].Status)
						return
					}
				}
				if r == rounds-1 && !bytes.Equal(x.result(&jobs[0]), reference(c.Key, uint64(k), aad(false, c.SPI, 0, uint32(r)), pattern(64))) {
					x.Errorf("queue %d: other bytes than the standard library's", k)
				}
			}
		})
	}
	wg.Wait()
	if st, err := b.s.Stats(h); err != nil || st.Packets != uint64(n*rounds*size) || st.Bytes != st.Packets*64 {
		b.Errorf("%d packets of 64 bytes: %+v, %v", n*rounds*size, st, err)
	}
}

// testAllocations: the packet path allocates nothing.
func testAllocations(b *bench) {
	if b.opt.Allocates != "" {
		b.Skip(b.opt.Allocates)
	}
	bits := b.algorithm().KeyBits[0]
	b.start(64)
	c := gcm(1, bits)
	out, in := b.pair(c)
	jobs := make([]sal.Job, 32)
	back := make([]sal.Job, 32)
	for i := range jobs {
		sa, op := out, sal.Seal
		if i&1 != 0 {
			sa, op = in, sal.Open // with a wrong ICV: the way of a failure
		}
		jobs[i] = b.packet(sa, op, uint32(i), espOff, c.SPI, uint32(i), uint64(i), pattern(200))
	}
	if n := testing.AllocsPerRun(50, func() {
		if b.caps.Sync {
			b.q.Do(jobs)
		}
		for k := 0; k < len(jobs); {
			k += b.q.Submit(jobs[k:])
			b.q.Poll(back)
		}
		for b.q.InFlight() > 0 {
			b.q.Poll(back)
		}
	}); n != 0 {
		b.Errorf("%v allocations in a burst", n)
	}
}
