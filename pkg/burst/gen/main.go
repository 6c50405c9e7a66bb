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
	rdtsc()
	prefetchLines()
	prefetchShifted()
	prefetchPicked()
	prefetchPtrs()
	bucketMatch()
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
