package cpu

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"reflect"
	"unsafe"

	"vrouter/pkg/mem"
)

const blockLen = aes.BlockSize

// cbcEncrypt chains blocks (RFC 3602). The standard library's own CBC is an
// object with a copy of the key for each chain, and on this project's platforms
// the same loop.
func cbcEncrypt(b cipher.Block, iv, text []byte) {
	for len(text) >= blockLen {
		x := text[:blockLen]
		subtle.XORBytes(x, x, iv)
		b.Encrypt(x, x)
		iv, text = x, text[blockLen:]
	}
}

// cbcDecrypt goes from the end, so that the block before is still cipher text.
func cbcDecrypt(b cipher.Block, iv, text []byte) {
	for at := len(text) - blockLen; at >= 0; at -= blockLen {
		x := text[at : at+blockLen]
		b.Decrypt(x, x)
		if at > 0 {
			iv := text[at-blockLen : at]
			subtle.XORBytes(x, x, iv)
		} else {
			subtle.XORBytes(x, x, iv)
		}
	}
}

// ivs makes IVs that nobody can predict and that do not repeat: a counter, and a
// number that no other queue has, encrypted under a random key of the queue's own (RFC
// 3602 section 3; NIST SP 800-38A appendix C).
type ivs struct {
	block cipher.Block
	n     []byte
}

func newIVs(a *arena) ivs {
	var key [32]byte
	rand.Read(key[:]) // never fails
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	mem.Wipe(key[:])
	x := ivs{block: a.move(b).(cipher.Block), n: a.bytes(blockLen)}
	rand.Read(x.n[8:])
	return x
}

func (x *ivs) next(to []byte) {
	x.count()
	x.block.Encrypt(to, x.n)
}

// nonce writes what becomes such an IV when it is encrypted.
func (x *ivs) nonce(to unsafe.Pointer) {
	x.count()
	p := unsafe.Pointer(unsafe.SliceData(x.n))
	mem.Store64(to, 0, mem.Load64(p, 0))
	mem.Store64(to, 8, mem.Load64(p, 8))
}

func (x *ivs) count() { binary.BigEndian.PutUint64(x.n, binary.BigEndian.Uint64(x.n)+1) }

// ctr is a queue's AES-CTR. The standard library's does many blocks at a time,
// but is an object with a copy of the key for each IV; so one object is kept, and
// is given key and counter by writing its fields. Where it has others than known
// (another version of Go, another platform), single blocks are used instead.
type ctr struct {
	stream cipher.Stream // nil: its fields are not known
	key    []byte        // its copy of the key schedule
	lo, hi *uint64       // the counter
	offset *uint64
	block  []byte // a counter block and its key stream, where single blocks are used
	loaded unsafe.Pointer
}

func newCTR(a *arena) ctr {
	x := ctr{block: a.bytes(2 * blockLen)}
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	s := cipher.NewCTR(b, make([]byte, blockLen))
	// The interface holds a pointer to the object, or a struct of one.
	t := reflect.TypeOf(s)
	inner := t
	if t.Kind() == reflect.Struct && t.NumField() == 1 {
		inner = t.Field(0).Type
	}
	if inner.Kind() != reflect.Pointer || !flat(inner.Elem()) || !movable(b) {
		return x
	}
	u64 := reflect.TypeFor[uint64]()
	key, ok1 := field(inner, "b")
	lo, ok2 := field(inner, "ivlo")
	hi, ok3 := field(inner, "ivhi")
	off, ok4 := field(inner, "offset")
	if !ok1 || !ok2 || !ok3 || !ok4 || key.Type != reflect.TypeOf(b).Elem() || lo.Type != u64 || hi.Type != u64 || off.Type != u64 {
		return x
	}
	p := unsafe.Pointer(unsafe.SliceData(a.bytes(int(inner.Elem().Size()))))
	v := reflect.New(t)
	*(*unsafe.Pointer)(v.UnsafePointer()) = p // t is one pointer, bare or in a struct
	x.stream, _ = v.Elem().Interface().(cipher.Stream)
	x.key = unsafe.Slice((*byte)(unsafe.Add(p, key.Offset)), key.Type.Size())
	x.lo, x.hi, x.offset = (*uint64)(unsafe.Add(p, lo.Offset)), (*uint64)(unsafe.Add(p, hi.Offset)), (*uint64)(unsafe.Add(p, off.Offset))
	return x
}

// xor runs the key stream of RFC 3686 over text: counter blocks are nonce, IV
// and a counter from 1.
func (x *ctr) xor(r *record, b cipher.Block, iv, text []byte) {
	hi := uint64(binary.BigEndian.Uint32(r.salt[:]))<<32 | uint64(binary.BigEndian.Uint32(iv))
	lo := uint64(binary.BigEndian.Uint32(iv[4:]))<<32 | 1
	if x.stream == nil {
		x.single(b, hi, lo, text)
		return
	}
	if at := unsafe.Pointer(r); at != x.loaded {
		copy(x.key, r.aead[:])
		x.loaded = at
	}
	*x.hi, *x.lo, *x.offset = hi, lo, 0
	x.stream.XORKeyStream(text, text)
}

func (x *ctr) single(b cipher.Block, hi, lo uint64, text []byte) {
	in, out := x.block[:blockLen], x.block[blockLen:]
	binary.BigEndian.PutUint64(in, hi)
	for len(text) > 0 {
		binary.BigEndian.PutUint64(in[8:], lo) // no packet has 2^32 blocks
		b.Encrypt(out, in)
		n := subtle.XORBytes(text, text, out)
		lo, text = lo+1, text[n:]
	}
	clear(out)
}

// forget wipes the copy of a key.
func (x *ctr) forget() {
	if x.loaded != nil {
		mem.Wipe(x.key)
		x.loaded = nil
	}
}
