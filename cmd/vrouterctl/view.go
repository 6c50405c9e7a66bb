package main

const (
	nsIf      = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
	nsIP      = "urn:ietf:params:xml:ns:yang:ietf-ip"
	nsRouting = "urn:ietf:params:xml:ns:yang:ietf-routing"
	nsIKEless = "urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"
	nsFast    = "urn:vrouter:yang:vrouter-fastpath"
	nsSAL     = "urn:vrouter:yang:vrouter-sal"
	nsMTU     = "urn:vrouter:yang:vrouter-mtu"
	nsCommit  = "urn:vrouter:yang:vrouter-commit"
	nsMonitor = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
)

var (
	ifList = &list{what: "interface", path: []string{"interfaces", "interface"}, open: `<interfaces xmlns="` + nsIf + `">`, close: "</interfaces>"}

	neighbourList = &list{what: "interface", path: ifList.path, open: ifList.open, close: ifList.close, from: ifList,
		inner: `<ipv4 xmlns="` + nsIP + `"><neighbor/></ipv4><ipv6 xmlns="` + nsIP + `"><neighbor/></ipv6>`}

	// Everything of an SA but its keys, which no table needs.
	saList = &list{what: "SA", path: []string{"ipsec-ikeless", "sad", "sad-entry"}, open: `<ipsec-ikeless xmlns="` + nsIKEless + `"><sad>`, close: "</sad></ipsec-ikeless>",
		inner: "<reqid/><ipsec-sa-config><spi/><ext-seq-num/><seq-overflow/><anti-replay-window-size/><traffic-selector/><protocol-parameters/><mode/>" +
			"<esp-sa><encryption><encryption-algorithm/></encryption></esp-sa><tunnel/><encapsulation-type/></ipsec-sa-config><ipsec-sa-state/>" +
			`<direction xmlns="` + nsSAL + `"/><offload xmlns="` + nsSAL + `"/><placement xmlns="` + nsSAL + `"/><counters xmlns="` + nsSAL + `"/>` +
			`<nat-traversal xmlns="` + nsSAL + `"/><peer xmlns="` + nsSAL + `"/><lifetime xmlns="` + nsSAL + `"/><mtu xmlns="` + nsMTU + `"/>`}

	latenessList = &list{what: "SA", path: saList.path, open: saList.open, close: saList.close, from: saList,
		inner: "<ipsec-sa-config><anti-replay-window-size/></ipsec-sa-config>" + `<lateness xmlns="` + nsSAL + `"/>`}

	policyList = &list{what: "policy", path: []string{"ipsec-ikeless", "spd", "spd-entry"}, open: `<ipsec-ikeless xmlns="` + nsIKEless + `"><spd>`, close: "</spd></ipsec-ikeless>"}
)

// views are the things that can be shown.
var views = []view{
	{words: "interfaces", short: "interfaces with state, addresses and counters", aliases: []string{"interface", "int"}, list: ifList, defaults: true, table: interfaces},
	{words: "routes", short: "the routing tables", aliases: []string{"route"}, filter: `<routing xmlns="` + nsRouting + `"><ribs/></routing>`, table: routes},
	{words: "neighbours", short: "neighbours by ARP and neighbour discovery", aliases: []string{"neighbors", "neighbour", "neighbor", "arp", "nd"}, list: neighbourList, table: neighbours},
	{words: "ipsec sa", short: "security associations", aliases: []string{"sas", "sad"}, list: saList, table: sas},
	{words: "ipsec lateness", short: "how far behind others the packets of SAs come, and what window that takes", list: latenessList, defaults: true, table: latenesses},
	{words: "ipsec policy", short: "the security policy database, in order", aliases: []string{"policies", "spd"}, list: policyList, table: policies},
	{words: "drops", short: "why packets died, and where they came in", filter: `<fastpath xmlns="` + nsFast + `"><drops/></fastpath>`, table: drops},
	{words: "fastpath", short: "workers, buffers and flow cache of the data plane",
		filter: `<fastpath xmlns="` + nsFast + `"><process/><workers/><buffers/><flow-cache/></fastpath>`, table: dataPlane},
	{words: "workers", short: "what each worker of the data plane does", aliases: []string{"worker"},
		filter: `<fastpath xmlns="` + nsFast + `"><workers/></fastpath>`, table: workers},
	{words: "engines", short: "crypto engines of the acceleration layer", aliases: []string{"engine"}, filter: `<sal xmlns="` + nsSAL + `"><engine/></sal>`, table: engines},
	{words: "tenants", short: "tenant groups with their quotas, and what they use", aliases: []string{"tenant", "groups"},
		filter: `<sal xmlns="` + nsSAL + `"><tenant-group/></sal>`, table: tenants},
	{words: "commits", short: "versions of the running configuration, to roll back to", filter: `<commits xmlns="` + nsCommit + `"/>`, table: commits},
	{words: "sessions", short: "NETCONF sessions", filter: `<netconf-state xmlns="` + nsMonitor + `"><sessions/></netconf-state>`, table: sessions},
}
