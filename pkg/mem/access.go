package mem

import "unsafe"

// The functions below read and write p+off in the machine's own byte order
// (little endian on amd64 and arm64) at any alignment. They check nothing: the
// caller knows that the bytes exist. Each compiles to one instruction.

// At turns the address of mapped memory into a pointer. The address must lie
// in a [Region] that is still mapped: for memory of the Go heap this would
// hide a reference from the collector.
func At(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// Load8 reads the byte at p+off.
func Load8(p unsafe.Pointer, off uintptr) uint8 { return *(*uint8)(unsafe.Add(p, off)) }

// Load16 reads two bytes at p+off.
func Load16(p unsafe.Pointer, off uintptr) uint16 { return *(*uint16)(unsafe.Add(p, off)) }

// Load32 reads four bytes at p+off.
func Load32(p unsafe.Pointer, off uintptr) uint32 { return *(*uint32)(unsafe.Add(p, off)) }

// Load64 reads eight bytes at p+off.
func Load64(p unsafe.Pointer, off uintptr) uint64 { return *(*uint64)(unsafe.Add(p, off)) }

// Store8 writes the byte at p+off.
func Store8(p unsafe.Pointer, off uintptr, v uint8) { *(*uint8)(unsafe.Add(p, off)) = v }

// Store16 writes two bytes at p+off.
func Store16(p unsafe.Pointer, off uintptr, v uint16) { *(*uint16)(unsafe.Add(p, off)) = v }

// Store32 writes four bytes at p+off.
func Store32(p unsafe.Pointer, off uintptr, v uint32) { *(*uint32)(unsafe.Add(p, off)) = v }

// Store64 writes eight bytes at p+off.
func Store64(p unsafe.Pointer, off uintptr, v uint64) { *(*uint64)(unsafe.Add(p, off)) = v }

// Bytes is the n bytes of mapped memory at addr; see [At] for what addr may be.
func Bytes(addr uintptr, n int) []byte { return unsafe.Slice((*byte)(At(addr)), n) }
