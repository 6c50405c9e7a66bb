package cpu

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

const (
	saltLen = 4 // RFC 4106 section 4
	ivLen   = 8
	icvLen  = 16

	lineLen = 64
	// recLines is an odd number, so that the lines which every packet uses
	// spread over all cache sets.
	recLines = 15
	recLen   = recLines * lineLen
	aeadRoom = recLen - lineLen - int(unsafe.Sizeof(errorCounts{}))

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
	_     [2]byte
	salt  [saltLen]byte
	// owner is the queue (number + 1) that counts in packets and bytes without
	// locked instructions: the first that uses the SA. All others count in
	// packets2 and bytes2.
	owner            atomic.Uint32
	packets, bytes   uint64
	packets2, bytes2 atomic.Uint64
	_                [lineLen - 48]byte
	aead             [aeadRoom]byte // what cipher.AEAD points at
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
	for l := uintptr(0); l < unsafe.Offsetof(record{}.errors); l += lineLen {
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

// States of a record. A packet is only worked on while live.
const (
	free uint32 = iota
	live
	deleted
)

// count books a packet done well, on the goroutine of queue q.
func (r *record) count(q uint32, n uint64) {
	switch o := r.owner.Load(); {
	case o == q || o == 0 && r.owner.CompareAndSwap(0, q):
		store(&r.packets, r.packets+1)
		store(&r.bytes, r.bytes+n)
	default:
		r.packets2.Add(1)
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
	region *mem.Region
}

func newChunk() (*chunk, error) {
	r, err := mem.Map(chunkSAs*recLen, mem.Options{Secret: true})
	if err != nil {
		return nil, err
	}
	return &chunk{recs: (*[chunkSAs]record)(r.Ptr()), region: r}, nil
}

// install expands the key into record i. Nothing of the key stays on the heap
// if that can be helped.
func (c *chunk) install(i int, cfg *sal.SAConfig) error {
	key := cfg.Key[:len(cfg.Key)-saltLen]
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
	copy(r.salt[:], cfg.Key[len(key):])
	r.op, r.esn = sal.Seal, cfg.ESN
	if cfg.Direction == sal.Inbound {
		r.op = sal.Open
	}
	if movable(aead) {
		v := reflect.ValueOf(aead).Elem()
		at := reflect.NewAt(v.Type(), unsafe.Pointer(&r.aead))
		at.Elem().Set(v)
		v.SetZero()
		aead = at.Interface().(cipher.AEAD)
	}
	c.aeads[i] = aead
	r.state.Store(live)
	return nil
}

// wipe forgets everything in record i.
func (c *chunk) wipe(i int) {
	c.aeads[i] = nil
	r := &c.recs[i]
	mem.Wipe(unsafe.Slice((*byte)(unsafe.Pointer(r)), recLen))
}

// movable tells whether what an interface value points at may lie outside the
// Go heap: it holds no pointers and fits the record.
func movable(v any) bool {
	t := reflect.TypeOf(v)
	return t.Kind() == reflect.Pointer && t.Elem().Size() <= uintptr(aeadRoom) && flat(t.Elem())
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
