package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// narrow writes the kernels for registers of 256 and of 128 bits. They are what
// kernel in main.go is, with these differences:
//
//   - There are sixteen registers, so round keys are read from the context in each
//     group, and one piece of code does for all sizes of keys. The vectors of a
//     group share what is read.
//   - A group is eight blocks: four registers or eight. Seal reads the ciphertext
//     of the group before back from memory.
//   - There are no masks for bytes. The last vector is read and written whole,
//     which reaches into the tag behind the text and not beyond: one register of 128
//     bits where no more than one block is left. Seal writes the tag over it, Open
//     writes back what was there.
//   - Long packets are hashed by Horner's rule, eight blocks at a time.
type narrow struct {
	open bool
	w    int // bytes of a register
	n    int // labels of rounds so far
}

// group is the bytes that are worked on together: all blocks of the longest tail.
const group = 128

// rkl is the address of the last round key.
var rkl = reg.R14

var ys = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
	reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

// Where things lie: states in 0 to 7 or, of 256 bits, in 0 to 3.
const (
	vPower = 4 // of 256 bits only
	vKey   = 8
	vLO    = 9
	vMID   = 10
	vHI    = 11
	vT0    = 12
	vT1    = 13
	vJ0    = 14
	vCTR   = 15
	vMask  = vCTR // in tails, where no counter is needed any more
)

// v is register i in the kernel's width.
func (g *narrow) v(i int) reg.VecPhysical {
	if g.w == 16 {
		return px(ys[i])
	}
	return ys[i]
}

// x is the lower 128 bits of register i.
func x(i int) reg.VecPhysical { return px(ys[i]) }

// vectors is how many registers n blocks fill, whole the register that vector i
// of them is read, masked and written in.
func (g *narrow) vectors(n int) int { return (16*n + g.w - 1) / g.w }

func (g *narrow) whole(n, i, r int) reg.VecPhysical {
	if 16*n < g.w*(i+1) {
		return x(r)
	}
	return g.v(r)
}

// all reads 16 bytes into each lane.
func (g *narrow) all(from Mem, r int) {
	if g.w == 16 {
		VMOVDQU(from, x(r))
	} else {
		VBROADCASTI128(from, ys[r])
	}
}

// product gives the operations that multiply v(vT0) by a power.
func product(v func(int) reg.VecPhysical, power Op, fresh bool) (ops []func()) {
	for _, p := range []struct {
		imm   uint64
		to    int
		fresh bool
	}{{0x00, vLO, fresh}, {0x11, vHI, fresh}, {0x01, vMID, fresh}, {0x10, vMID, false}} {
		if p.fresh {
			ops = append(ops, func() { VPCLMULQDQ(U8(p.imm), power, v(vT0), v(p.to)) })
			continue
		}
		ops = append(ops,
			func() { VPCLMULQDQ(U8(p.imm), power, v(vT0), v(vT1)) },
			func() { VPXOR(v(vT1), v(p.to), v(p.to)) })
	}
	return ops
}

// reduction leaves the reduction of HI:MID:LO, each lane by itself, in HI.
func reduction(v func(int) reg.VecPhysical) (ops []func()) {
	for _, s := range [][2]int{{vLO, vMID}, {vMID, vHI}} {
		ops = append(ops,
			func() { VPSHUFD(U8(0x4e), v(s[0]), v(vT0)) },
			func() { VPCLMULQDQ(U8(0), poly, v(s[0]), v(vT1)) },
			func() { VPXOR(v(vT0), v(s[1]), v(s[1])) },
			func() { VPXOR(v(vT1), v(s[1]), v(s[1])) })
	}
	return ops
}

// reduced is the reduction, its lanes added up in the lower one.
func (g *narrow) reduced() []func() {
	ops := reduction(g.v)
	if g.w == 32 {
		ops = append(ops,
			func() { VEXTRACTI128(U8(1), ys[vHI], x(vT0)) },
			func() { VPXOR(x(vT0), x(vHI), x(vHI)) })
	}
	return ops
}

// hash gives the operations that add n blocks times the powers from at on. load
// puts vector i into T0, in the order of bytes of the hash.
func (g *narrow) hash(n int, load func(i int), at func(i int) Mem, fresh bool) (ops []func()) {
	for i := range g.vectors(n) {
		ops = append(ops, func() { load(i) })
		var power Op = at(i)
		if g.w == 32 { // half of them straddle lines: read once
			power = ys[vPower]
			ops = append(ops, func() { VMOVDQU(at(i), ys[vPower]) })
		}
		ops = append(ops, product(g.v, power, fresh && i == 0)...)
	}
	return ops
}

// stream are the powers as they follow at hp.
func (g *narrow) stream(i int) Mem { return m(hp, g.w*i) }

// from loads whole vectors of text.
func (g *narrow) from(disp int) func(i int) {
	return func(i int) {
		VMOVDQU(m(buf, disp+g.w*i), g.v(vT0))
		VPSHUFB(bswap, g.v(vT0), g.v(vT0))
	}
}

// mine is the hashing that is done beside the AES of a group: Open's is of the
// group itself, Seal's of the one before.
func (g *narrow) mine() []func() {
	disp := 0
	if !g.open {
		disp = -group
	}
	return g.hash(group/16, g.from(disp), g.stream, false)
}

// horner is the same where the accumulator, in HI, is reduced with each group.
func (g *narrow) horner() []func() {
	disp := 0
	if !g.open {
		disp = -group
	}
	load := g.from(disp)
	ops := g.hash(group/16, func(i int) {
		load(i)
		if i == 0 {
			VPXOR(g.v(vHI), g.v(vT0), g.v(vT0)) // its upper lane is zero
		}
	}, func(i int) Mem { return m(key, -group+g.w*i) }, true)
	return append(ops, g.reduced()...)
}

// aes takes n blocks of counters, and J0 when first, up to the last round, whose
// key it leaves in vKey, with ops spread between. J0 is finished.
func (g *narrow) aes(n int, first bool, ops []func()) {
	nv := g.vectors(n)
	for i := range nv {
		VPXOR(m(tab, g.w*i), g.v(vCTR), g.v(i))
	}
	if first {
		VPXOR(ctr1, x(vCTR), x(vJ0))
	}
	round := func(r int) {
		g.all(m(key, ctxRK+16*r), vKey)
		for i := range nv {
			VAESENC(g.v(vKey), g.v(i), g.v(i))
		}
		if first {
			VAESENC(x(vKey), x(vJ0), x(vJ0))
		}
	}
	done := 0
	for r := 1; r <= 9; r++ {
		round(r)
		for want := len(ops) * r / 9; done < want; done++ {
			ops[done]()
		}
	}
	end := fmt.Sprintf("rounds%d", g.n)
	g.n++
	CMPL(m(key, ctxRounds), Imm(12))
	JB(LabelRef(end))
	round(10)
	round(11)
	JE(LabelRef(end)) // none of the above changes flags
	round(12)
	round(13)
	Label(end)
	g.all(m(rkl, 0), vKey)
	if first {
		VAESENCLAST(x(vKey), x(vJ0), x(vJ0))
	}
}

// last is the last round of n blocks, with the text. In a tail, Seal leaves the
// ciphertext, padded with zeros, in the registers of the states.
func (g *narrow) last(n int, tail bool) {
	nv := g.vectors(n)
	for i := range nv {
		text := m(buf, g.w*i)
		if !tail || i < nv-1 {
			t := g.v(vT0 + i&1)
			VPXOR(text, g.v(vKey), t)
			VAESENCLAST(t, g.v(i), g.v(i))
			VMOVDQU(g.v(i), text)
			continue
		}
		VAESENCLAST(g.v(vKey), g.v(i), g.v(i))
		s, mask := g.whole(n, i, i), g.whole(n, i, vMask)
		if g.open { // behind the text stays what was there
			VPAND(mask, s, s)
			VPXOR(text, s, s)
			VMOVDQU(s, text)
		} else {
			VPXOR(text, s, s)
			VMOVDQU(s, text)
			VPAND(mask, s, s)
		}
	}
}

// mask loads the mask of the last vector of a tail of n blocks.
func (g *narrow) mask(n int) {
	i := g.vectors(n) - 1
	LEAQ(masks, reg.RAX)
	SUBQ(rem, reg.RAX)
	VMOVDQU(m(reg.RAX, 32+g.w*i), g.whole(n, i, vMask))
}

// tail is all that is left, n blocks.
func (g *narrow) tail(n int, first bool) {
	// What advance would ask for in this job's place.
	if n > 6 {
		PREFETCHT0(m(nkey, -192))
	}
	for i := range (n+3)/4 + 1 {
		if !first || i > 1 {
			PREFETCHT0(m(nbuf, 64*i))
		}
	}
	if g.open {
		var ops []func()
		if n > 0 {
			last := g.vectors(n) - 1
			load := func(i int) {
				t := g.whole(n, i, vT0)
				VMOVDQU(m(buf, g.w*i), t)
				if i == last {
					VPAND(g.whole(n, i, vMask), t, t)
				}
				VPSHUFB(bswap, g.v(vT0), g.v(vT0))
			}
			ops = append([]func(){func() { g.mask(n) }}, g.hash(n, load, g.stream, false)...)
		}
		g.aes(n, first, ops)
		VPXOR(Mem{Base: buf, Index: rem, Scale: 1}, x(vJ0), x(vJ0))
		g.last(n, true)
	} else {
		if first {
			g.aes(n, true, nil)
		} else {
			g.aes(n, false, g.mine())
			ADDQ(I32(group), hp)
		}
		if n > 0 {
			g.mask(n)
		}
		g.last(n, true)
		run(g.hash(n, func(i int) { VPSHUFB(bswap, g.v(i), g.v(vT0)) }, g.stream, false))
	}
	g.finish()
	JMP(LabelRef("next"))
}

// tails finds the tail by the blocks that are left: none to eight, none only in
// an empty packet.
func (g *narrow) tails(first bool) {
	name := "tail"
	least := 1
	if first {
		name, least = "only", 0
	}
	var pick func(lo, hi int)
	pick = func(lo, hi int) {
		if lo == hi {
			g.tail(lo, first)
			return
		}
		mid := (lo + hi) / 2
		more := fmt.Sprintf("%s%d", name, mid+1)
		CMPQ(rem, I32(16*mid))
		JA(LabelRef(more))
		pick(lo, mid)
		Label(more)
		pick(mid+1, hi)
	}
	pick(least, group/16)
}

// finish writes or compares the tag.
func (g *narrow) finish() {
	run(g.reduced())
	VPSHUFB(bswap, x(vHI), x(vHI))
	VPXOR(x(vJ0), x(vHI), x(vHI)) // with the received tag, in Open
	if !g.open {
		VMOVDQU(x(vHI), Mem{Base: buf, Index: rem, Scale: 1})
		return
	}
	XORL(reg.EAX, reg.EAX)
	VPTEST(x(vHI), x(vHI))
	SETNE(reg.AL)
	MOVQ(reg.RAX, m(job, jobStatus))
	ADDQ(reg.RAX, bad)
}

// begin sets the accumulators: T0 times the power at from, and the block of
// lengths times H.
func (g *narrow) begin(from Mem) {
	MOVL(m(job, jobLen), reg.EAX)
	MOVL(m(job, jobAADLen), blk.As32())
	SHLQ(Imm(3), reg.RAX)
	SHLQ(Imm(3), blk)
	if g.w == 32 {
		VMOVQ(reg.RAX, x(vT1))
		VPINSRQ(U8(1), blk, x(vT1), x(vT1))
		VINSERTI128(U8(1), x(vT1), ys[vT0], ys[vT0])
		VMOVDQU(from, x(vPower))
		VINSERTI128(U8(1), m(key, -16), ys[vPower], ys[vPower])
		run(product(g.v, ys[vPower], true))
		return
	}
	run(product(g.v, from, true))
	VMOVQ(reg.RAX, x(vT0))
	VPINSRQ(U8(1), blk, x(vT0), x(vT0))
	run(product(g.v, m(key, -16), false))
}

// advance goes on by a group, and asks for as much of a job ahead.
func (g *narrow) advance(powers bool) {
	for i := range group / 64 {
		if powers {
			PREFETCHT0(m(nkey, -192-64*i))
		}
		PREFETCHT0(m(nbuf, 64*i))
	}
	if powers {
		SUBQ(I32(group), nkey)
	}
	ADDQ(I32(group), nbuf)
	ADDQ(I32(group), buf)
	ADDQ(I32(group), tab)
	SUBQ(I32(group), rem)
}

// full is a group that is not the last.
func (g *narrow) full(first bool) {
	if first && !g.open {
		g.aes(group/16, true, nil)
	} else {
		g.aes(group/16, first, g.mine())
		ADDQ(I32(group), hp)
	}
	g.last(group/16, false)
	g.advance(true)
}

// aad loads the additional data into T0.
func aad() {
	VMOVDQU(m(job, jobAAD), x(vT0))
	VPSHUFB(bswap, x(vT0), x(vT0))
}

func (g *narrow) body() {
	g.all(m(job, jobIV), vCTR)
	g.all(m(key, ctxRK), vT0)
	VPXOR(g.v(vT0), g.v(vCTR), g.v(vCTR))
	MOVQ(tab0, tab)
	MOVL(m(key, ctxRounds), reg.EAX)
	SHLQ(Imm(4), reg.RAX)
	LEAQ(Mem{Base: key, Index: reg.RAX, Scale: 1, Disp: ctxRK}, rkl)

	LEAQ(m(rem, 15), reg.RAX)
	SHRQ(Imm(4), reg.RAX)
	MOVQ(reg.RAX, hp)
	ADDL(Imm(2), reg.EAX)
	CMPL(reg.EAX, m(key, ctxLimit))
	JA(LabelRef("long"))
	NOTQ(hp) // -(blocks+1)
	SHLQ(Imm(4), hp)
	ADDQ(key, hp)
	aad()
	g.begin(m(hp, -16))
	CMPQ(rem, I32(group))
	JA(LabelRef("big"))
	g.tails(true)

	Label("big")
	g.full(true)
	Label("check")
	CMPQ(rem, I32(group))
	JBE(LabelRef("tails"))
	Label("loop")
	g.full(false)
	CMPQ(rem, I32(group))
	JA(LabelRef("loop"))
	Label("tails")
	g.tails(false)

	// More blocks than powers: Horner's rule until the rest fits. blk counts the
	// blocks that are not hashed.
	Label("long")
	LEAQ(m(rem, 15), blk)
	SHRQ(Imm(4), blk)
	aad()
	run(product(x, m(key, -16), true))
	run(reduction(x))
	if g.open {
		g.aes(group/16, true, g.horner())
		SUBQ(Imm(group/16), blk)
	} else {
		g.aes(group/16, true, nil)
	}
	g.last(group/16, false)
	g.advance(true)
	Label("longcheck")
	LEAQ(m(blk, 1), reg.RAX)
	CMPL(reg.EAX, m(key, ctxLimit))
	JBE(LabelRef("fits"))
	g.aes(group/16, false, g.horner())
	g.last(group/16, false)
	g.advance(false)
	SUBQ(Imm(group/16), blk)
	JMP(LabelRef("longcheck"))
	Label("fits")
	NOTQ(blk)
	SHLQ(Imm(4), blk)
	LEAQ(Mem{Base: key, Index: blk, Scale: 1}, hp)
	VMOVDQA(x(vHI), x(vT0)) // belongs to the first block of the rest
	g.begin(m(hp, 0))
	JMP(LabelRef("check"))
}

func narrowKernel(name string, width int, open bool) {
	TEXT(name, NOSPLIT, "func(jobs *byte, n int, tab *byte) uint64")
	Pragma("noescape")
	Load(Param("jobs"), job)
	Load(Param("n"), last)
	Load(Param("tab"), tab0)
	DECQ(last)
	SHLQ(Imm(6), last)
	ADDQ(job, last)
	XORL(bad.As32(), bad.As32())
	Label("dispatch")
	nextJob()
	g := &narrow{open: open, w: width}
	g.body()
	Label("next")
	ADDQ(Imm(jobSize), job)
	CMPQ(job, last)
	JBE(LabelRef("dispatch"))
	VZEROALL() // no key, text or hash stays
	Store(bad, ReturnIndex(0))
	RET()
}

// powers writes H^1, H^2, … downwards from the anchor.
func powers() {
	TEXT("powers", NOSPLIT, "func(anchor *byte, h *byte, n int)")
	Pragma("noescape")
	Doc("powers writes n powers of h below anchor, the first right below it.")
	Load(Param("anchor"), key)
	Load(Param("h"), buf)
	Load(Param("n"), rem)
	VMOVDQU(m(buf, 0), x(vHI))
	VMOVDQA(x(vHI), x(vPower))
	Label("power")
	SUBQ(Imm(16), key)
	VMOVDQU(x(vHI), m(key, 0))
	VMOVDQA(x(vHI), x(vT0))
	run(product(x, x(vPower), true))
	run(reduction(x))
	DECQ(rem)
	JNE(LabelRef("power"))
	VZEROALL()
	RET()
}

// features reads what golang.org/x/sys/cpu tells of only where there is AVX-512.
func features() {
	TEXT("features", NOSPLIT, "func() uint32")
	Doc("features is ECX of CPUID's leaf 7: bit 9 is VAES, bit 10 VPCLMULQDQ.")
	XORL(reg.EAX, reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	CMPL(reg.EAX, Imm(7))
	MOVL(U32(0), reg.ECX)
	JB(LabelRef("end"))
	MOVL(U32(7), reg.EAX)
	CPUID()
	Label("end")
	Store(reg.ECX, ReturnIndex(0))
	RET()
}
