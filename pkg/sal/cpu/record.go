package cpu

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"

	"vrouter/pkg/cbchmac"
	"vrouter/pkg/gcm"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

const (
	// Of all AEADs that there are: RFC 4106 section 4, RFC 7634 section 2.
	saltLen = 4
	ivLen   = 8
	icvLen  = 16

	lineLen = 64
	// recLines is an odd number, so that the lines which every packet uses
	// spread over all cache sets.
	recLines = 17
	recLen   = recLines * lineLen
	aeadRoom = recLen - lineLen - int(unsafe.Sizeof(errorCounts{}))

	// stdRoom is what of it the standard library's ciphers may take.
	stdRoom = 12 * lineLen

	// A chunk fits one huge page.
	chunkSAs  = mem.HugePage / recLen
	maxChunks = 512
)

// record is an SA in mapped memory. The first line is what each packet reads
// or counts.
type record struct {
	state atomic.Uint32 // free, live or deleted
	op    sal.Op        // the one operation this SA does
	esn   bool
	how   uint8 // which cipher
	mac   uint8 // which hash, noMAC with an AEAD
	salt  [saltLen]byte
	// owner is the queue (number + 1) that counts in packets and bytes without
	// locked instructions: the first that uses the SA. All others count in
	// packets2 and bytes2.
	owner            atomic.Uint32
	packets, bytes   uint64
	packets2, bytes2 atomic.Uint64
	iv, icv          uint8 // lengths, where the cipher is no AEAD
	_                [lineLen - 50]byte
	aead             [aeadRoom]byte // what cipher.AEAD points at, or cipher.Block, or a context of package gcm or cbchmac; see macKeys
	errors           errorCounts
}

// hot lists the lines that a packet touches: all but the decryption schedule,
// which GCM does not use, and the error counters. The layout is the standard
// library's own business; where it is not as known, all lines are hot.
var hot = func() (lines []uintptr) {
	cold := func(uintptr) bool { return false }
	if b, _ := aes.NewCipher(make([]byte, 16)); b != nil {
		if dec, ok := field(reflect.TypeOf(b), "block", "blockExpanded", "dec"); ok {
			from := unsafe.Offsetof(record{}.aead) + dec.Offset
			to := from + dec.Type.Size()
			cold = func(l uintptr) bool { return l >= from && l+lineLen <= to }
		}
	}
	for l := uintptr(0); l < unsafe.Offsetof(record{}.aead)+stdRoom; l += lineLen {
		if !cold(l) {
			lines = append(lines, l)
		}
	}
	return lines
}()

// field finds a field by names from outer to inner; its offset counts from the
// outermost struct.
func field(t reflect.Type, names ...string) (f reflect.StructField, ok bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var off uintptr
	for _, n := range names {
		if t.Kind() != reflect.Struct {
			return f, false
		}
		if f, ok = t.FieldByName(n); !ok {
			return f, false
		}
		off += f.Offset
		t = f.Type
	}
	f.Offset = off
	return f, true
}

type errorCounts [16]atomic.Uint64

// Ciphers, as record.how says.
const (
	isAEAD    uint8 = iota
	isVector        // AES-GCM with its context in aead, see vector.go
	isChained       // AES-CBC with HMAC-SHA2-256, its context in aead, see chained.go
	isNull
	isCBC
	isCTR
)

// macKeys are in the end of the room that an AEAD would fill.
func (r *record) macKeys() *macKeys {
	return (*macKeys)(unsafe.Pointer(&r.aead[macsAt]))
}

const macsAt = (stdRoom - int(unsafe.Sizeof(macKeys{}))) &^ (lineLen - 1)

// States of a record. A packet is only worked on while live.
const (
	free uint32 = iota
	live
	deleted
)

// count books packets done well, of n bytes together, on the goroutine of queue q.
func (r *record) count(q uint32, packets, n uint64) {
	switch o := r.owner.Load(); {
	case o == q || o == 0 && r.owner.CompareAndSwap(0, q):
		store(&r.packets, r.packets+packets)
		store(&r.bytes, r.bytes+n)
	default:
		r.packets2.Add(packets)
		r.bytes2.Add(n)
	}
}

// fail books a packet that failed.
func (r *record) fail(s sal.Status) { r.errors[s&15].Add(1) }

func (r *record) stats() (s sal.SAStats) {
	s.Packets = atomic.LoadUint64(&r.packets) + r.packets2.Load()
	s.Bytes = atomic.LoadUint64(&r.bytes) + r.bytes2.Load()
	for i := range s.Errors {
		s.Errors[i] = r.errors[i].Load()
	}
	return s
}

// chunk is a huge page of records.
type chunk struct {
	recs *[chunkSAs]record
	// aeads[i] points into recs[i].aead, or to the heap where the standard
	// library's type does not allow that.
	aeads  [chunkSAs]cipher.AEAD
	blocks [chunkSAs]cipher.Block // as well, where the cipher is no AEAD
	region *mem.Region
}

func newChunk() (*chunk, error) {
	r, err := mem.MapSecret(chunkSAs*recLen, mem.Options{})
	if err != nil {
		return nil, err
	}
	return &chunk{recs: (*[chunkSAs]record)(r.Ptr()), region: r}, nil
}

// install expands the keys into record i. Nothing of them stays on the heap if
// that can be helped.
func (c *chunk) install(i int, cfg *sal.SAConfig, e *Engine) error {
	shape, _ := cfg.Algorithm.Shape()
	lay, err := cfg.Layout()
	if err != nil {
		return err
	}
	key := cfg.Key[:len(cfg.Key)-shape.Salt]
	r := &c.recs[i]
	copy(r.salt[:], cfg.Key[len(key):])
	r.op, r.esn = sal.Seal, cfg.ESN
	if cfg.Direction == sal.Inbound {
		r.op = sal.Open
	}
	r.iv, r.icv, r.mac = uint8(lay.IV), uint8(lay.ICV), macOf[cfg.Integrity]
	switch cfg.Algorithm {
	case sal.AESGCM16:
		if e.level != gcm.None {
			r.how = isVector
			_, err = gcm.Expand(r.aead[:], key)
		} else {
			err = c.gcm(i, key)
		}
	case sal.ChaCha20Poly1305:
		var a cipher.AEAD
		if a, err = chacha20poly1305.New(key); err == nil {
			r.how, c.aeads[i] = isAEAD, r.take(a).(cipher.AEAD)
		}
	case sal.AESCBC:
		if e.cbc != cbchmac.None && r.mac == macSHA256 {
			r.how, r.mac = isChained, noMAC
			_, err = cbchmac.Expand(r.aead[:], key, cfg.IntegrityKey)
		} else {
			r.how, err = isCBC, c.block(i, key)
		}
	case sal.AESCTR:
		r.how, err = isCTR, c.block(i, key)
	default:
		r.how = isNull
	}
	if err == nil && r.mac != noMAC {
		err = r.macKeys().expand(r.mac, cfg.IntegrityKey)
	}
	if err != nil {
		c.wipe(i)
		return err
	}
	r.state.Store(live)
	return nil
}

func (c *chunk) gcm(i int, key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("AES key of %d bytes: %w", len(key), sal.ErrInvalid)
	}
	defer wipeValue(block)
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return fmt.Errorf("AES-GCM: %v: %w", err, sal.ErrNotSupported)
	}
	r := &c.recs[i]
	r.how, c.aeads[i] = isAEAD, r.take(aead).(cipher.AEAD)
	return nil
}

func (c *chunk) block(i int, key []byte) error {
	b, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("AES key of %d bytes: %w", len(key), sal.ErrInvalid)
	}
	c.blocks[i] = c.recs[i].take(b).(cipher.Block)
	return nil
}

// take moves what v points at into the record, if it may lie there.
func (r *record) take(v any) any {
	if !movable(v) {
		return v
	}
	x := reflect.ValueOf(v).Elem()
	at := reflect.NewAt(x.Type(), unsafe.Pointer(&r.aead))
	at.Elem().Set(x)
	x.SetZero()
	return at.Interface()
}

// wipe forgets everything in record i.
func (c *chunk) wipe(i int) {
	c.aeads[i], c.blocks[i] = nil, nil
	r := &c.recs[i]
	// A late job may still ask whether the SA is live, and nothing else of it.
	r.state.Store(free)
	mem.Wipe(unsafe.Slice((*byte)(unsafe.Pointer(r)), recLen)[unsafe.Sizeof(r.state):])
}

// movable tells whether what an interface value points at may lie outside the
// Go heap: it holds no pointers and fits the record.
func movable(v any) bool {
	t := reflect.TypeOf(v)
	return t.Kind() == reflect.Pointer && t.Elem().Size() <= stdRoom && flat(t.Elem())
}

// flat tells whether a type holds no pointers.
func flat(t reflect.Type) bool {
	switch k := t.Kind(); k {
	case reflect.Array:
		return flat(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !flat(t.Field(i).Type) {
				return false
			}
		}
		return true
	default:
		return k >= reflect.Bool && k <= reflect.Complex128
	}
}

// wipeValue zeroes what v points at, if it is a pointer to something flat.
func wipeValue(v any) {
	if t := reflect.TypeOf(v); t.Kind() == reflect.Pointer && flat(t.Elem()) {
		reflect.ValueOf(v).Elem().SetZero()
	}
}
