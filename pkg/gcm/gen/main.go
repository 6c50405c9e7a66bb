// Command gen writes the AES-GCM burst kernels of package gcm: in this file those
// for AVX-512, in narrow.go those for registers of 256 and 128 bits.
//
// What they do and why, each measured by leaving it out:
//
//   - Powers of H lie in memory in descending order, so those that a packet needs
//     are read straight on from anchor - 16*(blocks+1). Reading past H^1 into the
//     header is harmless: those lanes of the data are zero.
//   - IVs have 12 bytes, so counter blocks are IV || 2, 3, …: round 0 is one XOR of
//     broadcast(IV) ^ rk0 with a line of a table. The data goes in with the last
//     round key.
//   - AAD and length are one 256-bit product off the critical path, which
//     initialises the accumulators. Lanes are reduced before they are folded.
//   - Seal hashes a group of four vectors during the AES of the next.
//   - A packet of more blocks than there are powers goes through a lane-parallel
//     Horner loop until the rest fits.
//   - The key of the job before stays in registers.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pfKey is how many jobs ahead a job's key, powers and data are asked for. 3 to 8
// cannot be told apart.
const pfKey = 6

// spread is over how many AES rounds the hashing of the group before is spread.
const spread = 9

// Job layout; must match type Job in gcm.go.
const (
	jobKey    = 0
	jobBuf    = 8
	jobLen    = 16
	jobAADLen = 20
	jobIV     = 24
	jobAAD    = 40
	jobStatus = 56
	jobSize   = 64
)

// Key context layout, relative to the anchor: powers H^i at -16*i; then a
// 16-byte header (limit, rounds); then the round keys.
const (
	ctxLimit  = 0
	ctxRounds = 4
	ctxRK     = 16
)

var (
	job  = reg.RSI
	last = reg.RDX
	tab0 = reg.RDI
	tab  = reg.R12
	key  = reg.R8
	buf  = reg.R9
	rem  = reg.R10
	hp   = reg.R11
	nbuf = reg.RCX
	nkey = reg.RBX
	blk  = reg.R13
	bad  = reg.R15
	// R14 is g in Go's internal convention only: its wrapper restores it.
	prevKey = reg.R14

	S   = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3}
	J0  = reg.Z4
	B   = []reg.VecPhysical{reg.Z5, reg.Z6, reg.Z7, reg.Z8}
	LO  = reg.Z9
	MID = reg.Z10
	HI  = reg.Z11
	T   = []reg.VecPhysical{reg.Z12, reg.Z13, reg.Z14, reg.Z15}
	CTR = reg.Z16
	BSW = reg.Z17
	zs  = []reg.VecPhysical{reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}

	poly, bswap, ctr1, masks Mem
)

func m(r reg.Register, d int) Mem { return Mem{Base: r, Disp: d} }

// RK returns the register of round key i (1-based).
func RK(i int) reg.VecPhysical { return zs[i-1] }

func xor3(a, b, acc reg.VecPhysical) { VPTERNLOGQ(U8(0x96), a, b, acc) }

type gen struct {
	open bool
	nr   int
	pre  string
}

func (g *gen) l(s string) string { return g.pre + s }

// mul returns the operations multiplying B[i] by the powers at operands h(i),
// for i in [0,n), accumulated in LO, MID, HI. fresh: overwrite instead of
// accumulate.
func mul(n int, load func(i int, dst reg.VecPhysical), fresh bool) []func() {
	var ops []func()
	add := func(f func()) { ops = append(ops, f) }
	for i := 0; i < n; i += 2 {
		two := i+1 < n
		b0, h0 := B[i], T[0]
		i0 := i
		add(func() { load(i0, h0) })
		var b1, h1 reg.VecPhysical
		if two {
			b1, h1 = B[i+1], T[1]
			add(func() { load(i0+1, h1) })
		}
		f := fresh && i == 0
		acc := func(imm int, dst reg.VecPhysical) {
			switch {
			case two && f:
				add(func() { VPCLMULQDQ(U8(imm), h0, b0, dst) })
				add(func() { VPCLMULQDQ(U8(imm), h1, b1, T[2]) })
				add(func() { VPXORQ(T[2], dst, dst) })
			case two:
				add(func() { VPCLMULQDQ(U8(imm), h0, b0, T[2]) })
				add(func() { VPCLMULQDQ(U8(imm), h1, b1, T[3]) })
				add(func() { xor3(T[2], T[3], dst) })
			case f:
				add(func() { VPCLMULQDQ(U8(imm), h0, b0, dst) })
			default:
				add(func() { VPCLMULQDQ(U8(imm), h0, b0, T[2]) })
				add(func() { VPXORQ(T[2], dst, dst) })
			}
		}
		acc(0x00, LO)
		acc(0x11, HI)
		mid := func(b, h reg.VecPhysical, f bool) {
			if f {
				add(func() { VPCLMULQDQ(U8(0x01), h, b, MID) })
				add(func() { VPCLMULQDQ(U8(0x10), h, b, T[3]) })
				add(func() { VPXORQ(T[3], MID, MID) })
				return
			}
			add(func() { VPCLMULQDQ(U8(0x01), h, b, T[2]) })
			add(func() { VPCLMULQDQ(U8(0x10), h, b, T[3]) })
			add(func() { xor3(T[2], T[3], MID) })
		}
		mid(b0, h0, f)
		if two {
			mid(b1, h1, false)
		}
	}
	return ops
}

// reduce leaves the reduction of HI:MID:LO, each 128-bit lane by itself, in HI.
func reduce() []func() {
	return []func(){
		func() { VPSHUFD(U8(0x4e), LO, T[0]) },
		func() { VPCLMULQDQ(U8(0), poly, LO, T[1]) },
		func() { xor3(T[0], T[1], MID) },
		func() { VPSHUFD(U8(0x4e), MID, T[0]) },
		func() { VPCLMULQDQ(U8(0), poly, MID, T[1]) },
		func() { xor3(T[0], T[1], HI) },
	}
}

// aes emits n counter vectors (and J0 when first) up to, not including, the
// last round, with ops spread between.
func (g *gen) aes(n int, first bool, ops []func()) {
	for i := 0; i < n; i++ {
		VPXORQ(m(tab, 64*i), CTR, S[i])
	}
	if first {
		VPXORQ(ctr1, CTR.AsX(), J0.AsX())
	}
	done := 0
	for r := 1; r < g.nr; r++ {
		for i := 0; i < n; i++ {
			VAESENC(RK(r), S[i], S[i])
		}
		if first {
			VAESENC(RK(r).AsX(), J0.AsX(), J0.AsX())
		}
		for want := min(len(ops), len(ops)*r/min(g.nr-1, spread)); done < want; done++ {
			ops[done]()
		}
	}
	if first {
		VAESENCLAST(RK(g.nr).AsX(), J0.AsX(), J0.AsX())
	}
}

// last emits the last round of n vectors, the data XOR and the store. For
// seal, B holds the byte-swapped ciphertext after.
func (g *gen) last(n int, tail, late bool) {
	for i := 0; i < n; i++ {
		if tail && i == n-1 {
			VMOVDQU8_Z(m(buf, 64*i), reg.K1, B[i])
			VPXORQ(RK(g.nr), B[i], B[i])
		} else {
			VPXORQ(m(buf, 64*i), RK(g.nr), B[i])
		}
	}
	if late && !g.open {
		for i := 0; i < n; i++ {
			VAESENCLAST(B[i], S[i], B[i])
		}
		for i := 0; i < n; i++ {
			VMOVDQU64(B[i], m(buf, 64*i))
		}
		return
	}
	for i := 0; i < n; i++ {
		VAESENCLAST(B[i], S[i], S[i])
	}
	for i := 0; i < n; i++ {
		if tail && i == n-1 {
			VMOVDQU8(S[i], reg.K1, m(buf, 64*i))
		} else {
			VMOVDQU64(S[i], m(buf, 64*i))
		}
		if !g.open {
			if tail && i == n-1 {
				VMOVDQU8_Z(S[i], reg.K1, S[i])
			}
			VPSHUFB(BSW, S[i], B[i])
		}
	}
}

// loadB loads n byte-swapped ciphertext vectors (open).
func (g *gen) loadB(n int, tail bool) {
	for i := 0; i < n; i++ {
		if tail && i == n-1 {
			VMOVDQU8_Z(m(buf, 64*i), reg.K1, B[i])
		} else {
			VMOVDQU64(m(buf, 64*i), B[i])
		}
		VPSHUFB(BSW, B[i], B[i])
	}
}

// pending is the hashing of the group before: byte swap unless done, products.
func pending() []func() {
	var ops []func()
	for _, b := range B {
		ops = append(ops, func() { VPSHUFB(BSW, b, b) })
	}
	return append(ops, mul(4, stream, false)...)
}

func stream(i int, dst reg.VecPhysical) { VMOVDQU64(m(hp, 64*i), dst) }
func bcast(i int, dst reg.VecPhysical)  { VBROADCASTI32X4(m(key, -16*(16-4*i)), dst) }

func (g *gen) advance(powers bool) {
	if powers {
		for i := 0; i < 4; i++ {
			PREFETCHT0(m(nkey, -192-64*i))
		}
		SUBQ(I32(256), nkey)
	}
	for i := 0; i < 4; i++ {
		PREFETCHT0(m(nbuf, 64*i))
	}
	ADDQ(I32(256), nbuf)
	ADDQ(I32(256), buf)
	ADDQ(I32(256), tab)
	SUBQ(I32(256), rem)
}

func run(ops []func()) {
	for _, f := range ops {
		f()
	}
}

// finish reduces, folds the lanes, and writes or compares the tag.
func (g *gen) finish() {
	run(reduce())
	VEXTRACTI64X4(U8(1), HI, T[0].AsY())
	VPXORQ(T[0].AsY(), HI.AsY(), HI.AsY())
	VEXTRACTI128(U8(1), HI.AsY(), T[0].AsX())
	VPXOR(T[0].AsX(), HI.AsX(), HI.AsX())
	VPSHUFB(BSW.AsX(), HI.AsX(), HI.AsX())
	if g.open {
		// J0 already holds EK(J0) ^ received tag.
		VPXOR(J0.AsX(), HI.AsX(), HI.AsX())
		XORL(reg.EAX, reg.EAX)
		VPTEST(HI.AsX(), HI.AsX())
		SETNE(reg.AL)
		MOVQ(reg.RAX, m(job, jobStatus))
		ADDQ(reg.RAX, bad)
	} else {
		VPXOR(J0.AsX(), HI.AsX(), HI.AsX())
		VMOVDQU(HI.AsX(), Mem{Base: buf, Index: rem, Scale: 1})
	}
}

func (g *gen) tails(first bool) {
	p := "n"
	if first {
		p = "f"
	}
	lab := func(i int) string { return g.l(fmt.Sprintf("tail%s%d", p, i)) }
	CMPQ(rem, I32(128))
	JA(LabelRef(lab(34)))
	CMPQ(rem, Imm(64))
	JA(LabelRef(lab(2)))
	one := func(n int) {
		// What advance would ask for in this job's place: powers for n vectors and
		// three blocks more, of which 8 are there; text and tag.
		for i := range n - 1 {
			PREFETCHT0(m(nkey, -192-64*i))
		}
		for i := range n + 1 {
			if !first || i > 1 {
				PREFETCHT0(m(nbuf, 64*i))
			}
		}
		if g.open {
			g.loadB(n, true)
			g.aes(n, first, mul(n, stream, false))
			VPXORQ(Mem{Base: buf, Index: rem, Scale: 1}, J0.AsX(), J0.AsX())
			g.last(n, true, false)
		} else {
			if first {
				g.aes(n, first, nil)
			} else {
				g.aes(n, first, pending())
				ADDQ(I32(256), hp)
			}
			g.last(n, true, false)
			run(mul(n, stream, false))
		}
		g.finish()
	}
	Label(lab(1))
	one(1)
	JMP(LabelRef(g.l("next")))
	Label(lab(2))
	one(2)
	JMP(LabelRef(g.l("next")))
	Label(lab(34))
	CMPQ(rem, I32(192))
	JA(LabelRef(lab(4)))
	one(3)
	JMP(LabelRef(g.l("next")))
	Label(lab(4))
	one(4)
	JMP(LabelRef(g.l("next")))
}

// lenBlock leaves the byte-reversed length block in T[1].
func lenBlock() {
	MOVL(m(job, jobLen), reg.EAX)
	MOVL(m(job, jobAADLen), reg.R13L)
	SHLQ(Imm(3), reg.RAX)
	SHLQ(Imm(3), blk)
	VMOVQ(reg.RAX, T[1].AsX())
	VPINSRQ(U8(1), blk, T[1].AsX(), T[1].AsX())
}

// mulSmall: LO, MID, HI = a*h on the registers given (X or Y).
func mulSmall(a, h, lo, mid, hi, t reg.VecPhysical) {
	VPCLMULQDQ(U8(0x00), h, a, lo)
	VPCLMULQDQ(U8(0x11), h, a, hi)
	VPCLMULQDQ(U8(0x01), h, a, mid)
	VPCLMULQDQ(U8(0x10), h, a, t)
	VPXORQ(t, mid, mid)
}

func px(r reg.VecPhysical) reg.VecPhysical { return r.AsX().(reg.VecPhysical) }
func py(r reg.VecPhysical) reg.VecPhysical { return r.AsY().(reg.VecPhysical) }

func (g *gen) body() {
	Label(g.l("job"))
	VBROADCASTI32X4(m(job, jobIV), CTR)
	rk0 := T[0]
	if g.nr < 14 {
		rk0 = zs[13]
	} else {
		VBROADCASTI32X4(m(key, ctxRK), rk0)
	}
	CMPQ(key, prevKey)
	JEQ(LabelRef(g.l("samekey")))
	MOVQ(key, prevKey)
	if g.nr < 14 {
		VBROADCASTI32X4(m(key, ctxRK), rk0)
	}
	for i := 1; i <= g.nr; i++ {
		VBROADCASTI32X4(m(key, ctxRK+16*i), RK(i))
	}
	Label(g.l("samekey"))
	VPXORQ(rk0, CTR, CTR)
	MOVQ(tab0, tab)

	// k1: mask of the bytes of the last vector.
	LEAQ(m(rem, -1), reg.RAX)
	ANDL(Imm(63), reg.EAX)
	INCL(reg.EAX)
	TESTL(rem.As32(), rem.As32())
	CMOVLEQ(rem.As32(), reg.EAX)
	MOVQ(I32(-1), hp)
	BZHIQ(reg.RAX, hp, hp)
	KMOVQ(hp, reg.K1)

	LEAQ(m(rem, 15), reg.RAX)
	SHRQ(Imm(4), reg.RAX)
	MOVQ(reg.RAX, hp)
	ADDL(Imm(2), reg.EAX)
	CMPL(reg.EAX, m(key, ctxLimit))
	JA(LabelRef(g.l("long")))
	NOTQ(hp) // -(nb+1)
	SHLQ(Imm(4), hp)
	ADDQ(key, hp)

	VMOVDQU(m(job, jobAAD), T[0].AsX())
	VPSHUFB(BSW.AsX(), T[0].AsX(), T[0].AsX())
	lenBlock()
	VINSERTI128(U8(1), T[1].AsX(), T[0].AsY(), T[0].AsY())
	VMOVDQU(m(hp, -16), T[2].AsX())
	VINSERTI128(U8(1), m(key, -16), T[2].AsY(), T[2].AsY())
	mulSmall(py(T[0]), py(T[2]), py(LO), py(MID), py(HI), py(T[3]))

	CMPQ(rem, I32(256))
	JA(LabelRef(g.l("big")))
	g.tails(true)

	Label(g.l("big"))
	if g.open {
		g.loadB(4, false)
		g.aes(4, true, mul(4, stream, false))
		g.last(4, false, true)
		ADDQ(I32(256), hp)
	} else {
		g.aes(4, true, nil)
		g.last(4, false, true)
	}
	g.advance(true)
	Label(g.l("check"))
	CMPQ(rem, I32(256))
	JBE(LabelRef(g.l("tails")))
	Label(g.l("loop"))
	if g.open {
		g.loadB(4, false)
		g.aes(4, false, mul(4, stream, false))
	} else {
		g.aes(4, false, pending())
	}
	g.last(4, false, true)
	ADDQ(I32(256), hp)
	g.advance(true)
	CMPQ(rem, I32(256))
	JA(LabelRef(g.l("loop")))
	Label(g.l("tails"))
	g.tails(false)

	// More blocks than powers: lane-parallel Horner with H^16, H^12, H^8, H^4
	// in every lane and one reduction per 16 blocks, until the rest fits.
	Label(g.l("long"))
	LEAQ(m(rem, 15), blk)
	SHRQ(Imm(4), blk) // blocks from the start of the pending group
	VMOVDQU(m(job, jobAAD), T[0].AsX())
	VPSHUFB(BSW.AsX(), T[0].AsX(), T[0].AsX())
	VMOVDQU(m(key, -16), T[2].AsX())
	mulSmall(px(T[0]), px(T[2]), px(LO), px(MID), px(HI), px(T[3]))
	run(reduce())
	if g.open {
		g.aes(4, true, nil)
		JMP(LabelRef(g.l("longin")))
	} else {
		g.aes(4, true, nil)
		g.last(4, false, false)
		g.advance(true)
		VPXORQ(HI, B[0], B[0])
		JMP(LabelRef(g.l("longcheck")))
	}
	Label(g.l("longloop"))
	if g.open {
		g.aes(4, false, nil)
		Label(g.l("longin"))
		g.loadB(4, false)
		VPXORQ(HI, B[0], B[0])
		run(mul(4, bcast, true))
		run(reduce())
		g.last(4, false, false)
		g.advance(false)
	} else {
		g.aes(4, false, append(mul(4, bcast, true), reduce()...))
		g.last(4, false, false)
		VPXORQ(HI, B[0], B[0])
		g.advance(false)
	}
	SUBQ(Imm(16), blk)
	Label(g.l("longcheck"))
	LEAQ(m(blk, 1), reg.RAX)
	CMPL(reg.EAX, m(key, ctxLimit))
	JA(LabelRef(g.l("longloop")))
	NOTQ(blk)
	SHLQ(Imm(4), blk)
	LEAQ(Mem{Base: key, Index: blk, Scale: 1}, hp)
	if g.open {
		// The accumulator goes into the first vector of the rest: multiply it
		// by the same powers here.
		VMOVDQU64(HI, B[0])
		run(mul(1, stream, true))
		lenBlock()
		VMOVDQU(m(key, -16), T[2].AsX())
		VMOVDQA64(T[1], B[0])
		VMOVDQA64(T[2], B[1])
		mulSmall(px(B[0]), px(B[1]), px(T[0]), px(T[1]), px(T[2]), px(T[3]))
		VPXORQ(T[0], LO, LO)
		VPXORQ(T[1], MID, MID)
		VPXORQ(T[2], HI, HI)
	} else {
		lenBlock()
		VMOVDQU(m(key, -16), T[2].AsX())
		mulSmall(px(T[1]), px(T[2]), px(LO), px(MID), px(HI), px(T[3]))
		for _, b := range B { // handed over unswapped
			VPSHUFB(BSW, b, b)
		}
	}
	JMP(LabelRef(g.l("check")))

	Label(g.l("next"))
	ADDQ(Imm(jobSize), job)
	CMPQ(job, last)
	JBE(LabelRef("dispatch"))
	JMP(LabelRef("done"))
}

func kernel(name string, open bool) {
	TEXT(name, NOSPLIT, "func(jobs *byte, n int, tab *byte) uint64")
	Pragma("noescape")
	Load(Param("jobs"), job)
	Load(Param("n"), last)
	Load(Param("tab"), tab0)
	DECQ(last)
	SHLQ(Imm(6), last)
	ADDQ(job, last)
	XORL(bad.As32(), bad.As32())
	XORL(prevKey.As32(), prevKey.As32())
	VMOVDQU64(bswap, BSW)
	Label("dispatch")
	nextJob()
	MOVL(m(key, ctxRounds), reg.EAX)
	CMPL(reg.EAX, Imm(12))
	JA(LabelRef("r14_job"))
	JEQ(LabelRef("r12_job"))
	for _, nr := range []int{10, 12, 14} {
		g := &gen{open: open, nr: nr, pre: fmt.Sprintf("r%d_", nr)}
		g.body()
	}
	Label("done")
	wipe()
	Store(bad, ReturnIndex(0))
	RET()
}

// nextJob loads what a job says, and asks for the first lines of one ahead.
func nextJob() {
	MOVQ(m(job, jobKey), key)
	MOVQ(m(job, jobBuf), buf)
	MOVL(m(job, jobLen), rem.As32())
	LEAQ(m(job, jobSize*pfKey), reg.RAX)
	CMPQ(reg.RAX, last)
	CMOVQHI(last, reg.RAX)
	MOVQ(m(reg.RAX, jobKey), nkey)
	MOVQ(m(reg.RAX, jobBuf), nbuf)
	for d := -128; d <= 128; d += 64 {
		PREFETCHT0(m(nkey, d))
	}
	PREFETCHT0(m(nbuf, 0))
	PREFETCHT0(m(nbuf, 64))
}

// wipe leaves no key, text or hash in vector registers.
func wipe() {
	VZEROALL()
	for i := range 16 {
		z := []reg.VecPhysical{reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
			reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}[i]
		VPXORQ(z.AsX(), z.AsX(), z.AsX())
	}
}

// subWord is the S-box over four bytes, as key expansion needs it, in constant
// time.
func subWord() {
	TEXT("subWord", NOSPLIT, "func(x uint32) uint32")
	Doc("subWord is SubWord of FIPS 197 section 5.2.")
	Load(Param("x"), reg.EAX)
	VMOVD(reg.EAX, reg.X0)
	VPSHUFD(U8(0), reg.X0, reg.X0)
	VAESKEYGENASSIST(U8(0), reg.X0, reg.X0)
	VMOVD(reg.X0, reg.EAX)
	VPXOR(reg.X0, reg.X0, reg.X0)
	Store(reg.EAX, ReturnIndex(0))
	RET()
}

// hashKey is the hash subkey H, the cipher over zeros (NIST SP 800-38D section 6.4).
func hashKey() {
	TEXT("hashKey", NOSPLIT, "func(h *byte, rk *byte, rounds int)")
	Pragma("noescape")
	Doc("hashKey encrypts zeros with the round keys at rk.")
	Load(Param("h"), buf)
	Load(Param("rk"), key)
	Load(Param("rounds"), rem)
	VMOVDQU(m(key, 0), reg.X0)
	Label("round")
	ADDQ(Imm(16), key)
	DECQ(rem)
	JEQ(LabelRef("lastround"))
	VAESENC(m(key, 0), reg.X0, reg.X0)
	JMP(LabelRef("round"))
	Label("lastround")
	VAESENCLAST(m(key, 0), reg.X0, reg.X0)
	VMOVDQU(reg.X0, m(buf, 0))
	VPXOR(reg.X0, reg.X0, reg.X0)
	RET()
}

func consts() {
	bswap = GLOBL("bswapMask", RODATA|NOPTR)
	for i := 0; i < 4; i++ {
		DATA(16*i, U64(0x08090a0b0c0d0e0f))
		DATA(16*i+8, U64(0x0001020304050607))
	}
	poly = GLOBL("ghashPoly", RODATA|NOPTR)
	for i := 0; i < 4; i++ {
		DATA(16*i, U64(0xc200000000000000))
		DATA(16*i+8, U64(0xc200000000000000))
	}
	ctr1 = GLOBL("ctrOne", RODATA|NOPTR)
	DATA(0, U64(0))
	DATA(8, U64(0x0100000000000000))
	masks = GLOBL("tailMasks", RODATA|NOPTR)
	for i := range 8 {
		DATA(8*i, U64(-uint64(i/4^1))) // 32 bytes of ones, then of zeros
	}
}

func main() {
	ConstraintExpr("!purego")
	consts()
	kernel("seal512", false)
	kernel("open512", true)
	narrowKernel("seal256", 32, false)
	narrowKernel("open256", 32, true)
	narrowKernel("seal128", 16, false)
	narrowKernel("open128", 16, true)
	subWord()
	hashKey()
	powers()
	features()
	Generate()
}
