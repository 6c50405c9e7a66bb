package fill_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/openconfig/ygot/ygot"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
	"vrouter/mgmt/internal/schema"
	"vrouter/mgmt/internal/schema/fastpath"
	"vrouter/mgmt/internal/schema/fill"
	"vrouter/mgmt/internal/schema/interfaces"
	"vrouter/mgmt/internal/schema/ipsec"
	"vrouter/mgmt/internal/schema/routing4"
	"vrouter/mgmt/yang"
)

func load(t testing.TB) *yang.Schema {
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t testing.TB, s *yang.Schema, text string) *data.Container {
	tree, err := codec.Read(s, []byte("<config>"+text+"</config>"))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func entry(t testing.TB, tree *data.Container, path string) *data.Container {
	n, err := data.Find(tree, path)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := n.(*data.Container)
	return c
}

func must[T any](t testing.TB) func(*fill.Filler[T], error) *fill.Filler[T] {
	return func(f *fill.Filler[T], err error) *fill.Filler[T] {
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
}

func sample(t testing.TB) string {
	b, err := os.ReadFile("../../../../yang/testdata/accepted/tunnel.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInterface(t *testing.T) {
	s := load(t)
	tree := read(t, s, sample(t))
	list := s.Find("/ietf-interfaces:interfaces/interface")
	f := must[interfaces.Interfaces_Interface](t)(fill.New[interfaces.Interfaces_Interface](list))
	got := f.Fill(entry(t, tree, "/ietf-interfaces:interfaces/interface[name='wan0']"))
	want := &interfaces.Interfaces_Interface{
		Name: ygot.String("wan0"), Enabled: ygot.Bool(true), TcpMss: ygot.String("off"), Type: interfaces.Interfaces_InterfaceType_ethernetCsmacd,
		Port: &interfaces.Interfaces_Interface_Port{
			Driver: interfaces.Interfaces_Interface_Port_Driver_tap, Queues: ygot.Uint8(2), Mtu: ygot.Uint16(1600),
			MacAddress: ygot.String("02:00:00:00:00:01"), Pcap: &interfaces.Interfaces_Interface_Port_Pcap{},
		},
		Ipv4: &interfaces.Interfaces_Interface_Ipv4{
			Enabled: ygot.Bool(true), Forwarding: ygot.Bool(true), Mtu: ygot.Uint16(1600), SourceCheck: interfaces.Interfaces_Interface_Ipv4_SourceCheck_off,
			Address: map[string]*interfaces.Interfaces_Interface_Ipv4_Address{
				"192.0.2.1": {Ip: ygot.String("192.0.2.1"), PrefixLength: ygot.Uint8(24)}},
		},
		Ipv6: &interfaces.Interfaces_Interface_Ipv6{
			Enabled: ygot.Bool(true), Forwarding: ygot.Bool(true), DupAddrDetectTransmits: ygot.Uint32(1), SourceCheck: interfaces.Interfaces_Interface_Ipv6_SourceCheck_off,
			Ipv6RouterAdvertisements: &interfaces.Interfaces_Interface_Ipv6_Ipv6RouterAdvertisements{
				SendAdvertisements: ygot.Bool(false), MaxRtrAdvInterval: ygot.Uint16(600), ManagedFlag: ygot.Bool(false), OtherConfigFlag: ygot.Bool(false),
				LinkMtu: ygot.Uint32(0), ReachableTime: ygot.Uint32(0), RetransTimer: ygot.Uint32(0),
				PrefixList: &interfaces.Interfaces_Interface_Ipv6_Ipv6RouterAdvertisements_PrefixList{}},
			Address: map[string]*interfaces.Interfaces_Interface_Ipv6_Address{
				"2001:db8::1": {Ip: ygot.String("2001:db8::1"), PrefixLength: ygot.Uint8(64)}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Defaults of containers that are not in the tree.
	got = f.Fill(nil)
	want = &interfaces.Interfaces_Interface{Enabled: ygot.Bool(true), TcpMss: ygot.String("off"), Port: &interfaces.Interfaces_Interface_Port{
		Driver: interfaces.Interfaces_Interface_Port_Driver_af_packet, Queues: ygot.Uint8(1), Mtu: ygot.Uint16(1500), Pcap: &interfaces.Interfaces_Interface_Port_Pcap{}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestOptions(t *testing.T) {
	s := load(t)
	tree := read(t, s, sample(t))
	list := s.Find("/ietf-interfaces:interfaces/interface")
	f := must[interfaces.Interfaces_Interface](t)(fill.New[interfaces.Interfaces_Interface](list,
		fill.Explicit(), fill.Without("ietf-ip:ipv4/neighbor", "ietf-ip:ipv6")))
	got := f.Fill(entry(t, tree, "/ietf-interfaces:interfaces/interface[name='lan0']"))
	want := &interfaces.Interfaces_Interface{
		Name: ygot.String("lan0"), Description: ygot.String("the hosts of this site"), TcpMss: ygot.String("path-mtu"), Type: interfaces.Interfaces_InterfaceType_ethernetCsmacd,
		Port: &interfaces.Interfaces_Interface_Port{
			Driver: interfaces.Interfaces_Interface_Port_Driver_af_packet, Device: ygot.String("veth-lan"), Pcap: &interfaces.Interfaces_Interface_Port_Pcap{}},
		Ipv4: &interfaces.Interfaces_Interface_Ipv4{
			Forwarding: ygot.Bool(true),
			Address: map[string]*interfaces.Interfaces_Interface_Ipv4_Address{
				"10.1.0.1": {Ip: ygot.String("10.1.0.1"), PrefixLength: ygot.Uint8(24)}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Lists with several keys, unions of unlike types, defaults under a choice.
func TestPolicy(t *testing.T) {
	s := load(t)
	tree := read(t, s, sample(t))
	f := must[ipsec.Ipsec_SpdEntry](t)(fill.New[ipsec.Ipsec_SpdEntry](s.Find("/ietf-i2nsf-ikeless:ipsec-ikeless/spd/spd-entry")))
	got := f.Fill(entry(t, tree, "/ietf-i2nsf-ikeless:ipsec-ikeless/spd/spd-entry[name='web-in-clear']"))
	sel := got.IpsecPolicyConfig.TrafficSelector
	type key = ipsec.Ipsec_SpdEntry_IpsecPolicyConfig_TrafficSelector_RemotePorts_Key
	want := map[key]*ipsec.Ipsec_SpdEntry_IpsecPolicyConfig_TrafficSelector_RemotePorts{
		{Start: 80, End: 81}: {Start: ygot.Uint16(80), End: ygot.Uint16(81)}}
	if d := cmp.Diff(want, sel.RemotePorts); d != "" {
		t.Error(d)
	}
	if *sel.InnerProtocol != "6" || *sel.RemotePrefix != "0.0.0.0/0" || *got.Reqid != 0 {
		t.Errorf("protocol %s, remote %s, reqid %d", *sel.InnerProtocol, *sel.RemotePrefix, *got.Reqid)
	}
	got = f.Fill(entry(t, tree, "/ietf-i2nsf-ikeless:ipsec-ikeless/spd/spd-entry[name='to-b']"))
	if *got.IpsecPolicyConfig.TrafficSelector.InnerProtocol != "any" || *got.IpsecPolicyConfig.AntiReplayWindowSize != 1024 {
		t.Error("the default of inner-protocol, or what was set, is not there")
	}
}

// A struct of another schema is refused when the Filler is made, not when a
// commit comes.
func TestWrongSchema(t *testing.T) {
	s := load(t)
	if _, err := fill.New[routing4.Routing4_Route](s.Find("/ietf-interfaces:interfaces/interface")); err == nil || !strings.Contains(err.Error(), "make generate") {
		t.Errorf("got %v", err)
	}
	if _, err := fill.New[fastpath.Fastpath_Fastpath](nil); err == nil {
		t.Error("no error without a node")
	}
	if _, err := fill.New[interfaces.Interfaces_Interface](s.Find("/ietf-interfaces:interfaces/interface"), fill.Without("no/such")); err == nil {
		t.Error("no error for an unknown path")
	}
}

// A commit of 10 000 interfaces fills 10 000 structs; the budget for that is
// 50 ms of the 300 that such a commit may take.
func BenchmarkInterfaces10000(b *testing.B) {
	s := load(b)
	var x strings.Builder
	x.WriteString(`<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces" xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">`)
	for i := range 10000 {
		fmt.Fprintf(&x, `<interface><name>eth%d</name><description>number %d</description><type>t:ethernetCsmacd</type><enabled>true</enabled>`+
			`<ipv4 xmlns="urn:ietf:params:xml:ns:yang:ietf-ip"><address><ip>10.%d.%d.1</ip><prefix-length>24</prefix-length></address></ipv4></interface>`,
			i, i, i>>8, i&255)
	}
	x.WriteString(`</interfaces>`)
	tree := read(b, s, x.String())
	list := s.Find("/ietf-interfaces:interfaces/interface")
	f := must[interfaces.Interfaces_Interface](b)(fill.New[interfaces.Interfaces_Interface](list))
	l := data.Get(tree, s.Find("/ietf-interfaces:interfaces"), list).(*data.List)
	b.ReportAllocs()
	for b.Loop() {
		l.Each(func(_ string, n data.Node) bool {
			f.Fill(n.(*data.Container))
			return true
		})
	}
}
