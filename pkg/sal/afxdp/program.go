package afxdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// What the kernel calls things (linux/bpf.h).
const (
	xdpDrop, xdpPass = 1, 2

	atData, atDataEnd, atQueue = 0, 4, 16 // struct xdp_md

	// license is of the instructions below alone: the kernel lets only programs
	// under the GPL too ask for tags.
	license = "Dual MIT/GPL"
)

// program is the XDP program of a port on its device, with the map of its
// sockets. It is taken off when it is closed, and when the process ends: the
// link lives as long as its descriptor.
type program struct {
	socks *ebpf.Map
	prog  *ebpf.Program
	link  link.Link
	// native: in the device's driver, as opposed to the kernel's receive path.
	native bool
	// tags: VLAN tags that the kernel keeps beside a frame are put back.
	tags bool
	why  error // when not
	// frags: it takes frames that lie in several pieces.
	frags uint32
}

// newProgram loads the program for a device; nothing is attached yet. tags asks
// for the part that puts VLAN tags back, pieces for frames that lie in several.
func newProgram(index, queues int, tags, pieces bool) (_ *program, err error) {
	p := &program{}
	if pieces {
		p.frags = unix.BPF_F_XDP_HAS_FRAGS
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	p.socks, err = ebpf.NewMap(&ebpf.MapSpec{Name: "vrouter_xsk", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(queues)})
	if err != nil {
		return nil, fmt.Errorf("map of AF_XDP sockets: %w", explain(err))
	}
	// A program that asks for tags is bound to its device, and not every
	// kernel and driver has such.
	call, e := tagCall()
	if e == nil && tags {
		p.prog, e = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "vrouter", Type: ebpf.XDP, Instructions: code(p.socks.FD(), call),
			License: license, Ifindex: uint32(index), Flags: unix.BPF_F_XDP_DEV_BOUND_ONLY | p.frags})
		p.tags = e == nil
	}
	p.why = e
	if p.prog == nil {
		if err = p.plain(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// plain loads the program that knows nothing of tags.
func (p *program) plain() (err error) {
	if p.prog != nil {
		p.prog.Close()
	}
	p.tags = false
	p.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: "vrouter", Type: ebpf.XDP, Instructions: code(p.socks.FD(), nil), License: license, Flags: p.frags})
	if err != nil {
		return fmt.Errorf("XDP program: %w", explain(err))
	}
	return nil
}

// code is the program. A frame goes to the socket of its receive queue; what
// has no socket goes the kernel's way.
//
// The kernel keeps the VLAN tag of a frame that another device of this machine
// sent (veth) beside the frame, where a socket would not see it: tagged frames
// would look like untagged ones. With tagCall the program asks for the tag and
// writes it where it belongs (IEEE 802.1Q: behind the addresses).
func code(sockets int, tagCall *asm.Instruction) (c asm.Instructions) {
	c = append(c, asm.Mov.Reg(asm.R6, asm.R1))
	if tagCall != nil {
		const proto, tci = -2, -4 // on the stack
		c = append(c,
			asm.StoreImm(asm.R10, proto, 0, asm.Half),
			asm.StoreImm(asm.R10, tci, 0, asm.Half),
			asm.Mov.Reg(asm.R2, asm.R10), asm.Add.Imm(asm.R2, proto),
			asm.Mov.Reg(asm.R3, asm.R10), asm.Add.Imm(asm.R3, tci),
			*tagCall,
			asm.JNE.Imm(asm.R0, 0, "redirect"), // no tag
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, -4),
			asm.FnXdpAdjustHead.Call(),
			asm.JNE.Imm(asm.R0, 0, "drop"),
			asm.LoadMem(asm.R2, asm.R6, atData, asm.Word),
			asm.LoadMem(asm.R3, asm.R6, atDataEnd, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 18),
			asm.JGT.Reg(asm.R4, asm.R3, "drop"),
		)
		for at := int16(0); at < 12; at += 4 {
			c = append(c, asm.LoadMem(asm.R5, asm.R2, at+4, asm.Word), asm.StoreMem(asm.R2, at, asm.R5, asm.Word))
		}
		c = append(c,
			asm.LoadMem(asm.R5, asm.R10, proto, asm.Half), // in network order
			asm.StoreMem(asm.R2, 12, asm.R5, asm.Half),
			asm.LoadMem(asm.R5, asm.R10, tci, asm.Half),
			asm.HostTo(asm.BE, asm.R5, asm.Half),
			asm.StoreMem(asm.R2, 14, asm.R5, asm.Half),
		)
	}
	c = append(c,
		asm.LoadMem(asm.R2, asm.R6, atQueue, asm.Word).WithSymbol("redirect"),
		asm.LoadMapPtr(asm.R1, sockets),
		asm.Mov.Imm(asm.R3, xdpPass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	if tagCall != nil {
		c = append(c, asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("drop"), asm.Return())
	}
	return c
}

// tagCall calls bpf_xdp_metadata_rx_vlan_tag (Linux 6.8) with the context in
// R1, by the number that the kernel's own type information gives it.
func tagCall() (*asm.Instruction, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	var f *btf.Func
	if err := types.TypeByName("bpf_xdp_metadata_rx_vlan_tag", &f); err != nil {
		return nil, err
	}
	id, err := types.TypeID(f)
	if err != nil {
		return nil, err
	}
	i := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(id)}
	return &i, nil
}

// attach puts the program onto the device, into its driver if that can and
// generic is not wanted.
func (p *program) attach(index int, generic bool) (err error) {
	o := link.XDPOptions{Program: p.prog, Interface: index, Flags: link.XDPDriverMode}
	if err = unix.EOPNOTSUPP; !generic {
		p.link, err = link.AttachXDP(o)
	}
	if !generic && p.tags && errors.Is(err, unix.EOPNOTSUPP) {
		if err = p.plain(); err != nil {
			return err
		}
		o.Program = p.prog
		p.link, err = link.AttachXDP(o)
	}
	p.native = err == nil
	if errors.Is(err, unix.EOPNOTSUPP) {
		if p.tags { // only drivers know of tags
			if err = p.plain(); err != nil {
				return err
			}
			p.why = errors.New("the program is not in the device's driver")
		}
		o.Program, o.Flags = p.prog, link.XDPGenericMode
		p.link, err = link.AttachXDP(o)
	}
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another XDP program is on the device: %w", sal.ErrBusy)
	case errors.Is(err, unix.ERANGE):
		return fmt.Errorf("attaching the XDP program: the MTU of the device or of its veth peer is too large for XDP: %w", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("attaching the XDP program: the device has fewer receive queues than its veth peer has transmit queues: %w", err)
	case err != nil:
		return fmt.Errorf("attaching the XDP program: %w", explain(err))
	}
	return nil
}

func (p *program) close() {
	if p.link != nil {
		p.link.Close()
	}
	if p.prog != nil {
		p.prog.Close()
	}
	if p.socks != nil {
		p.socks.Close()
	}
}

// explain says what is missing when the kernel's answer leaves it open.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("not permitted: CAP_BPF and CAP_NET_ADMIN are needed, or RLIMIT_MEMLOCK is too small on kernels before 5.11: %w", err)
	case errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("the kernel has no bpf system call (CONFIG_BPF_SYSCALL): %w", err)
	}
	return err
}
