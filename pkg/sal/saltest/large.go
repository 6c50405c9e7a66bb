package saltest

import (
	"bytes"

	"vrouter/pkg/sal"
)

// testESPLarge runs texts in large buffers, there and back: lengths around those
// of ordinary buffers, of jumbo frames, where 15 bits end, and the longest that an IP packet can carry.
func testESPLarge(b *bench) {
	suites := b.suites()
	b.start(4)
	c := b.pool.NewCache()
	defer c.Close()
	lo, _ := c.AllocLarge()
	hi, _ := c.AllocLarge()
	defer c.Free(lo)
	defer c.Free(hi)
	for i, s := range suites {
		buf := []uint32{lo, hi}[i&1]
		out, in := b.pair(s.SAConfig)
		for k, n := range []int{0, 1984, sal.BufSize, 4096, 9000, 16129, 32768, 65535} {
			n = min(n, 65535-espLen-s.IV-s.ICV)
			n -= n % s.Align
			off, seq, hi, text := espOff+k&3*7, uint32(n), uint32(n)<<3, pattern(n)
			iv := s.iv(uint64(n)<<33 | 5)
			j := b.one(b.sealJob(s, out, buf, off, seq, hi, iv, text))
			b.checkSealed(s, &j, seq, hi, iv, text)
			sealed := bytes.Clone(b.behind(s, &j))
			j = b.one(b.openJob(s, in, buf, off, seq, hi, sealed))
			if j.Status != sal.StatusOK || !bytes.Equal(b.behind(s, &j)[s.IV:], text) {
				b.Fatalf("%v, %d bytes: opened with status %d", s, n, j.Status)
			}
			sealed[len(sealed)/2] ^= 4
			if j = b.one(b.openJob(s, in, buf, off, seq, hi, sealed)); j.Status != sal.StatusBadICV {
				b.Fatalf("%v, %d bytes: one bit changed, and status %d", s, n, j.Status)
			}
		}
		for sa, op := range map[sal.SA]sal.Op{out: sal.Seal, in: sal.Open} {
			last := sal.LargeSize - espLen - s.IV - s.ICV - 32768
			for _, x := range []struct {
				buf    uint32
				off, n int
			}{{buf, last + 16, 32768}, {buf, 65520, 65520}, {buf + 1, espOff, 64}, {buf - 1, espOff, 64}} {
				if b.pool.End(x.buf) == sal.BufSize {
					continue
				}
				before := bytes.Clone(b.buffer(3))
				j := b.one(sal.Job{SA: sa, Op: op, Desc: sal.MakeDesc(x.buf, 0, 64), Off: uint16(x.off), Len: uint16(x.n)})
				if j.Status != sal.StatusNoRoom || !bytes.Equal(before, b.buffer(3)) {
					b.Fatalf("%v, %d bytes at %d of buffer %d: status %d", s, x.n, x.off, x.buf, j.Status)
				}
			}
		}
		b.s.DelSA(out)
		b.s.DelSA(in)
	}
}
