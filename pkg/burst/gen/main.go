// Command gen writes the amd64 assembly of package burst. Routines take a
// whole burst: a call into assembly costs 2 to 4 ns and is never inlined.
//
// Prefetches are PREFETCHT1 throughout: asking for 256 lines at once overruns
// what the first-level cache can have outstanding, so T0 is slower than none.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!purego")
	rdtsc()
	prefetchLines()
	prefetchShifted()
	prefetchPicked()
	prefetchPtrs()
	bucketMatch()
	parse4()
	parse6()
	Generate()
}

func rdtsc() {
	TEXT("rdtsc", NOSPLIT, "func() uint64")
	Doc("rdtsc reads the time stamp counter after the loads before it are done.")
	LFENCE()
	RDTSC()
	SHLQ(Imm(32), RDX)
	ORQ(RDX, RAX)
	Store(RAX, ReturnIndex(0))
	RET()
}

func prefetchLines() {
	TEXT("prefetchLines", NOSPLIT, "func(base uintptr, idx *uint32, n int)")
	Pragma("noescape")
	Doc("prefetchLines asks for the 64-byte lines base + 64*idx[i]; n > 0.")
	base, idx, n := Load(Param("base"), GP64()), Load(Param("idx"), GP64()), Load(Param("n"), GP64())
	a := GP64()
	Label("loop")
	MOVL(Mem{Base: idx}, a.As32())
	SHLQ(Imm(6), a)
	PREFETCHT1(Mem{Base: base, Index: a, Scale: 1})
	ADDQ(Imm(4), idx)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}

func prefetchShifted() {
	TEXT("prefetchShifted", NOSPLIT, "func(base uintptr, v *uint32, n int, shift uint64)")
	Pragma("noescape")
	Doc("prefetchShifted asks for the 64-byte lines base + 64*(v[i]>>shift); n > 0.")
	base, v, n := Load(Param("base"), GP64()), Load(Param("v"), GP64()), Load(Param("n"), GP64())
	Load(Param("shift"), RCX)
	a := GP64()
	Label("loop")
	MOVL(Mem{Base: v}, a.As32())
	SHRL(CL, a.As32())
	SHLQ(Imm(6), a)
	PREFETCHT1(Mem{Base: base, Index: a, Scale: 1})
	ADDQ(Imm(4), v)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}

func prefetchPicked() {
	TEXT("prefetchPicked", NOSPLIT, "func(base uintptr, v *uint32, pick *uint8, n int, mask uint32, shift uint64)")
	Pragma("noescape")
	Doc("prefetchPicked asks for the 64-byte lines base + 64*((v[pick[i]]&mask)>>shift); n > 0.")
	base, v, pick := Load(Param("base"), GP64()), Load(Param("v"), GP64()), Load(Param("pick"), GP64())
	n, mask := Load(Param("n"), GP64()), Load(Param("mask"), GP32())
	Load(Param("shift"), RCX)
	a := GP64()
	Label("loop")
	MOVBLZX(Mem{Base: pick}, a.As32())
	MOVL(Mem{Base: v, Index: a, Scale: 4}, a.As32())
	ANDL(mask, a.As32())
	SHRL(CL, a.As32())
	SHLQ(Imm(6), a)
	PREFETCHT1(Mem{Base: base, Index: a, Scale: 1})
	INCQ(pick)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}

func prefetchPtrs() {
	TEXT("prefetchPtrs", NOSPLIT, "func(ptr *uintptr, n int, off uint64)")
	Pragma("noescape")
	Doc("prefetchPtrs asks for the lines at ptr[i] + off; n > 0.")
	p, n, off := Load(Param("ptr"), GP64()), Load(Param("n"), GP64()), Load(Param("off"), GP64())
	a := GP64()
	Label("loop")
	MOVQ(Mem{Base: p}, a)
	PREFETCHT1(Mem{Base: a, Index: off, Scale: 1})
	ADDQ(Imm(8), p)
	DECQ(n)
	JNZ(LabelRef("loop"))
	RET()
}

// bucketMatch needs AVX2 (the broadcast) and BMI1 (TZCNT).
func bucketMatch() {
	TEXT("bucketMatchAVX2", NOSPLIT, "func(buckets uintptr, bidx *uint32, hash *uint64, n int, out *uint32)")
	Pragma("noescape")
	Doc("bucketMatchAVX2 compares the 8 tags of each bucket at once; n > 0.")
	bk, bi, hs := Load(Param("buckets"), GP64()), Load(Param("bidx"), GP64()), Load(Param("hash"), GP64())
	n, out := Load(Param("n"), GP64()), Load(Param("out"), GP64())
	i, b, m := GP64(), GP64(), GP64()
	x := XMM()
	XORQ(i, i)
	Label("loop")
	MOVL(Mem{Base: bi, Index: i, Scale: 4}, b.As32())
	SHLQ(Imm(6), b)
	ADDQ(bk, b)
	VPBROADCASTW(Mem{Base: hs, Index: i, Scale: 8, Disp: 6}, x)
	VPCMPEQW(Mem{Base: b}, x, x)
	VPMOVMSKB(x, m.As32())
	ORL(U32(0x10000), m.As32()) // the ninth index is 0 and stands for a miss
	TZCNTL(m.As32(), m.As32())
	MOVL(Mem{Base: b, Index: m, Scale: 2, Disp: 16}, m.As32())
	MOVL(m.As32(), Mem{Base: out, Index: i, Scale: 4})
	INCQ(i)
	CMPQ(i, n)
	JNE(LabelRef("loop"))
	RET()
}

// param is an argument as a memory operand: there are more of them than
// registers.
func param(name string) Op {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// addressAndType ORs what is wrong with destination address and EtherType
// into acc. The frame is at p; typ is as loaded, first byte lowest.
func addressAndType(p, acc, t Register, typ uint32) {
	MOVQ(Mem{Base: p}, t)
	SHLQ(Imm(16), t)
	XORQ(param("mac"), t)
	ORQ(t, acc)
	MOVWLZX(Mem{Base: p, Disp: 12}, t.(GPVirtual).As32())
	XORL(U32(typ), t.(GPVirtual).As32())
	ORQ(t, acc)
}

// negative ORs the sign of the 32-bit t into acc.
func negative(t, acc GPVirtual) {
	SHRL(Imm(31), t.As32())
	ORQ(t, acc)
}

// parse4 follows parse4Go in parse.go; each check leaves 0 in what it ORs into
// acc when it passes.
func parse4() {
	TEXT("parse4Asm", NOSPLIT, "func(ptr *uintptr, length *uint16, n int, mac uint64, port uint64, s0 uint64, s1 uint64, masks *[2]uint64, key *[2]uint64, hash *uint64, bad *uint8)")
	Pragma("noescape")
	Doc("parse4Asm is ParseHash4; n > 0, mac is shifted left by 16.")
	ptr, ln, key := Load(Param("ptr"), GP64()), Load(Param("length"), GP64()), Load(Param("key"), GP64())
	hash, bad, masks := Load(Param("hash"), GP64()), Load(Param("bad"), GP64()), Load(Param("masks"), GP64())
	i, p, w0, w1, t, acc := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	XORQ(i, i)
	Label("loop")
	MOVQ(Mem{Base: ptr, Index: i, Scale: 8}, p)
	MOVQ(Mem{Base: p, Disp: 14}, w0)
	MOVQ(Mem{Base: p, Disp: 22}, w1)

	Comment("key")
	MOVBLZX(Mem{Base: p, Disp: 23}, t.As32())
	SHLQ(Imm(4), t)
	MOVQ(Mem{Base: p, Disp: 30}, RAX)
	ANDQ(Mem{Base: masks, Index: t, Scale: 1}, RAX)
	MOVQ(Mem{Base: p, Disp: 32}, RDX)
	ANDQ(Mem{Base: masks, Index: t, Scale: 1, Disp: 8}, RDX)
	ORQ(RDX, RAX)
	MOVQ(U64(0xffffffff0000ff00), RDX)
	ANDQ(w1, RDX)
	ORQ(param("port"), RDX)
	MOVQ(i, t)
	SHLQ(Imm(4), t)
	MOVQ(RDX, Mem{Base: key, Index: t, Scale: 1})
	MOVQ(RAX, Mem{Base: key, Index: t, Scale: 1, Disp: 8})

	Comment("hash")
	XORQ(param("s0"), RDX)
	XORQ(param("s1"), RAX)
	MULQ(RDX)
	XORQ(RDX, RAX)
	XORQ(param("s0"), RAX)
	MULQ(param("s1"))
	XORQ(RDX, RAX)
	MOVQ(RAX, Mem{Base: hash, Index: i, Scale: 8})

	Comment("sum of the header, folded to 16 bits: 0xffff")
	MOVL(Mem{Base: p, Disp: 30}, acc.As32())
	ADDQ(w0, acc)
	ADCQ(w1, acc)
	ADCQ(Imm(0), acc)
	MOVQ(acc, t)
	SHRQ(Imm(32), t)
	ADDL(t.As32(), acc.As32())
	ADCL(Imm(0), acc.As32())
	MOVL(acc.As32(), t.As32())
	SHRL(Imm(16), t.As32())
	ADDW(t.As16(), acc.As16())
	ADCW(Imm(0), acc.As16())
	MOVWLZX(acc.As16(), acc.As32())
	XORL(U32(0xffff), acc.As32())

	Comment("version and header length; MF and offset")
	MOVQ(U64(0xff3f0000000000ff), t)
	ANDQ(w0, t)
	XORQ(Imm(0x45), t)
	ORQ(t, acc)
	addressAndType(p, acc, t, 0x0008)

	Comment("28 <= total length <= frame length - 14")
	SHRL(Imm(16), w0.As32())
	ROLW(Imm(8), w0.As16())
	MOVWLZX(Mem{Base: ln, Index: i, Scale: 2}, t.As32())
	SUBL(Imm(14), t.As32())
	SUBL(w0.As32(), t.As32())
	negative(t, acc)
	SUBL(Imm(28), w0.As32())
	negative(w0, acc)

	Comment("TTL above 1")
	MOVBLZX(w1.As8(), w1.As32())
	SUBL(Imm(2), w1.As32())
	SHRL(Imm(31), w1.As32())
	ORQ(w1, acc)
	SETNE(Mem{Base: bad, Index: i, Scale: 1})
	INCQ(i)
	CMPQ(i, param("n"))
	JNE(LabelRef("loop"))
	RET()
}

// parse6 follows parse6Go in parse.go.
func parse6() {
	TEXT("parse6Asm", NOSPLIT, "func(ptr *uintptr, length *uint16, n int, mac uint64, port uint64, s *[4]uint64, masks *[2]uint64, key *[5]uint64, hash *uint64, bad *uint8)")
	Pragma("noescape")
	Doc("parse6Asm is ParseHash6; n > 0, mac is shifted left by 16, port by 40.")
	ptr, ln, key := Load(Param("ptr"), GP64()), Load(Param("length"), GP64()), Load(Param("key"), GP64())
	hash, bad, masks := Load(Param("hash"), GP64()), Load(Param("bad"), GP64()), Load(Param("masks"), GP64())
	s := Load(Param("s"), GP64())
	i, p, w0, t, acc, e := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	XORQ(i, i)
	Label("loop")
	MOVQ(Mem{Base: ptr, Index: i, Scale: 8}, p)
	MOVQ(Mem{Base: p, Disp: 14}, w0)

	Comment("last word of the key; refused next headers")
	MOVBLZX(Mem{Base: p, Disp: 20}, e.As32())
	MOVQ(e, acc)
	SHLQ(Imm(4), acc)
	SHLQ(Imm(32), e)
	ORQ(param("port"), e)
	MOVL(Mem{Base: p, Disp: 54}, t.As32())
	ANDQ(Mem{Base: masks, Index: acc, Scale: 1}, t)
	ORQ(t, e)
	MOVL(Mem{Base: p, Disp: 56}, t.As32())
	MOVQ(Mem{Base: masks, Index: acc, Scale: 1, Disp: 8}, acc)
	ANDQ(acc, t)
	ORQ(t, e)
	SHRQ(Imm(63), acc)
	MOVQ(e, Mem{Base: key, Disp: 32})

	Comment("hash: mix(mix(a^s0, b^s1)^e, mix(c^s2, d^s3)^s1)")
	MOVQ(Mem{Base: p, Disp: 22}, RDX)
	MOVQ(Mem{Base: p, Disp: 30}, RAX)
	MOVQ(RDX, Mem{Base: key})
	MOVQ(RAX, Mem{Base: key, Disp: 8})
	XORQ(Mem{Base: s}, RDX)
	XORQ(Mem{Base: s, Disp: 8}, RAX)
	MULQ(RDX)
	XORQ(RDX, RAX)
	XORQ(RAX, e)
	MOVQ(Mem{Base: p, Disp: 38}, RDX)
	MOVQ(Mem{Base: p, Disp: 46}, RAX)
	MOVQ(RDX, Mem{Base: key, Disp: 16})
	MOVQ(RAX, Mem{Base: key, Disp: 24})
	XORQ(Mem{Base: s, Disp: 16}, RDX)
	XORQ(Mem{Base: s, Disp: 24}, RAX)
	MULQ(RDX)
	XORQ(RDX, RAX)
	XORQ(Mem{Base: s, Disp: 8}, RAX)
	MULQ(e)
	XORQ(RDX, RAX)
	XORQ(Mem{Base: s}, RAX)
	MULQ(Mem{Base: s, Disp: 8})
	XORQ(RDX, RAX)
	MOVQ(RAX, Mem{Base: hash, Index: i, Scale: 8})
	ADDQ(Imm(40), key)

	addressAndType(p, acc, t, 0xdd86)

	Comment("version")
	MOVL(w0.As32(), t.As32())
	ANDL(U32(0xf0), t.As32())
	XORL(U32(0x60), t.As32())
	ORQ(t, acc)

	Comment("8 <= payload length <= frame length - 54")
	SHRQ(Imm(32), w0)
	MOVWLZX(w0.As16(), e.As32())
	ROLW(Imm(8), e.As16())
	MOVWLZX(Mem{Base: ln, Index: i, Scale: 2}, t.As32())
	SUBL(Imm(54), t.As32())
	SUBL(e.As32(), t.As32())
	negative(t, acc)
	SUBL(Imm(8), e.As32())
	negative(e, acc)

	Comment("hop limit above 1")
	SHRL(Imm(24), w0.As32())
	SUBL(Imm(2), w0.As32())
	SHRL(Imm(31), w0.As32())
	ORQ(w0, acc)
	SETNE(Mem{Base: bad, Index: i, Scale: 1})
	INCQ(i)
	CMPQ(i, param("n"))
	JNE(LabelRef("loop"))
	RET()
}
