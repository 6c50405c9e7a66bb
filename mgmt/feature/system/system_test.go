package system_test

import (
	"strings"
	"testing"

	"vrouter/fastpath"
	"vrouter/fastpath/feature/ipsec"
	"vrouter/fastpath/feature/neigh"
	"vrouter/mgmt/binding"
	"vrouter/mgmt/feature/system"
	"vrouter/mgmt/internal/bindtest"
	salapi "vrouter/pkg/sal"
)

func runner(t testing.TB) *bindtest.Runner {
	s := bindtest.Schema(t)
	r := bindtest.New(t, s)
	b, err := system.New(s, r.Engine, func() int { return 3 })
	if err != nil {
		t.Fatal(err)
	}
	r.Bindings = []binding.Binding{b}
	return r
}

func TestGolden(t *testing.T) {
	bindtest.Golden(t, func(t *testing.T) *bindtest.Runner { return runner(t) })
}

func TestLocate(t *testing.T) {
	b := runner(t).Bindings[0]
	if got := b.Locate(nil, &fastpath.Refusal{Feature: "global", Field: "BusyPoll"}); got != "/vrouter-fastpath:fastpath/worker/polling" {
		t.Error(got)
	}
	for field, leaf := range map[string]string{"Workers": "count", "Cores": "core", "Spread": "spreading"} {
		if got := b.Locate(nil, &fastpath.Refusal{Feature: "global", Field: field}); got != "/vrouter-fastpath:fastpath/worker/"+leaf {
			t.Error(got)
		}
	}
	if got := b.Locate(nil, &fastpath.Refusal{Feature: "sa"}); got != "" {
		t.Error(got)
	}
}

const (
	fp  = `xmlns="urn:vrouter:yang:vrouter-fastpath"`
	sal = `xmlns="urn:vrouter:yang:vrouter-sal"`
)

func TestState(t *testing.T) {
	r := runner(t)
	r.Engine.Answer = func(q *fastpath.Query) *fastpath.State {
		st := &fastpath.State{}
		if q.Process {
			st.Process = &fastpath.Process{PID: 42, StartedAt: 1e9, Label: "17",
				Changes: 4,
				Workers: []fastpath.Worker{{ID: 0, CPU: -1, RunsOn: -1, Packets: 9, Bursts: 5, Turns: 7, Idles: 2},
					{ID: 1, CPU: 3, RunsOn: 3, Busy: 5e9, Load: 40, Flows: 4, Given: 3, Taken: 2, Sent: 1, Queues: []fastpath.WorkerQueue{{Iface: "wan0", Queue: 1, Spread: true}}}},
				Buffers: fastpath.Buffers{Total: 100, Free: 60, Cached: 10, Ports: 20, Waiting: 7, InFlight: 3, Large: salapi.ClassStats{Total: 20, Free: 15, Cached: 2}},
				Flows:   fastpath.Flows{Size: 1 << 20, Used: 5, Hits: 6, Misses: 7},
				Neigh:   neigh.Stats{Entries: 12, Incomplete: 11, Created: 13, Evicted: 14, Refused: 15, Withheld: 16},
				Engines: []fastpath.EngineInfo{
					{Name: "cpu0", Driver: "cpu", NUMANode: -1, Queues: 4, Kind: "software", ISA: "aes-ni", Ready: true, Modes: []string{"crypto"}, Algorithms: []string{"aes-gcm-16-128"}, WindowMax: 8192, EngineState: ipsec.EngineState{SAs: 2}},
					{Name: "nic0", Kind: "inline", ISA: "x", Modes: []string{"crypto", "full"}, MaxSAs: 1024, QueueDepth: 512, NUMANode: 1,
						EngineState: ipsec.EngineState{Errors: 1, Jobs: 50, InFlight: 3, Full: 2, Drained: true, Failed: true, Losses: 4, Trips: 5, LastFailure: "gone", FailedAt: 1e9}}}}
		}
		if q.Drops {
			st.Drops = []fastpath.Drop{{Reason: "esp-replay", Severity: "attack?", Description: "ESP sequence number seen already.", Packets: 5,
				Ifaces: []fastpath.IfaceDrop{{Iface: "wan0", Packets: 4}}}}
		}
		return st
	}
	for _, c := range []struct {
		filter          string
		process, drops  bool
		has, has2, not  string
		otherwise, last string
	}{
		{filter: ``, process: true, drops: true,
			has: "<process><pid>42</pid><start-time>1970-01-01T00:00:01Z</start-time><revision>17</revision><restarts>3</restarts></process>",
			has2: "<workers><id>0</id><packets>9</packets><bursts>5</bursts><turns>7</turns><sleeps>2</sleeps><load>0</load><busy-time>0</busy-time><flows>0</flows>" +
				"<given>0</given><taken>0</taken><sent-by-others>0</sent-by-others></workers><workers><id>1</id><cpu>3</cpu>",
			otherwise: "<in-use>30</in-use>", last: `<engine><name>cpu0</name><driver>cpu</driver><kind>software</kind><isa>aes-ni</isa><ready>true</ready><queues>4</queues><mode>software</mode>`},
		{filter: `<fastpath ` + fp + `><drops/></fastpath>`, drops: true,
			has: "<severity>attack</severity>", has2: "<interface><name>wan0</name><packets>4</packets></interface>", not: "pid"},
		{filter: `<fastpath ` + fp + `><process/></fastpath>`, process: true, has: "<restarts>3<", has2: "<pid>42<", not: "drop"},
		{filter: `<fastpath ` + fp + `><neighbours/></fastpath>`, process: true, has: "<entries>12</entries><incomplete>11</incomplete><created>13</created>",
			has2: "<evicted>14</evicted><refused>15</refused><withheld>16</withheld>", not: "pid"},
		{filter: `<sal ` + sal + `/>`, process: true, has: "<max-sas>1024<", has2: "<kind>full</kind>", not: "pid",
			otherwise: "<numa-node>1</numa-node><ready>false</ready><queues>0</queues><queue-depth>512</queue-depth>",
			last: "<load><packets>50</packets><in-flight>3</in-flight><queue-full>2</queue-full></load><health><drained>true</drained><failed>true</failed><losses>4</losses>" +
				"<watchdog-trips>5</watchdog-trips><last-failure>gone</last-failure><last-failure-at>1970-01-01T00:00:01Z</last-failure-at></health>"},
		{filter: `<fastpath ` + fp + `><workers/></fastpath>`, process: true, not: "pid",
			has:  "<runs-on>3</runs-on><load>40</load><busy-time>5000000000</busy-time><flows>4</flows><given>3</given><taken>2</taken><sent-by-others>1</sent-by-others>",
			has2: "<queue><interface>wan0</interface><number>1</number><spread>true</spread></queue>"},
		{filter: `<fastpath ` + fp + `><worker/></fastpath>`, process: true, has: "<worker><oper-count>2</oper-count><changes>4</changes></worker>", not: "pid"},
		{filter: `<fastpath ` + fp + `><worker><polling/></worker></fastpath>`},
	} {
		got, asked := bindtest.Get(t, r, c.filter)
		for _, w := range []string{c.has, c.has2, c.otherwise, c.last} {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %s in %s", c.filter, w, got)
			}
		}
		if c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %s in %s", c.filter, c.not, got)
		}
		if !c.process && !c.drops {
			if len(asked) != 0 {
				t.Errorf("%s: asked %+v", c.filter, asked)
			}
		} else if len(asked) != 1 || asked[0].Process != c.process || asked[0].Drops != c.drops {
			t.Errorf("%s: asked %+v", c.filter, asked)
		}
	}
}

// While there is no data plane, the number of restarts is all there is to tell.
func TestStateWithoutDataPlane(t *testing.T) {
	got, _ := bindtest.Get(t, runner(t), `<fastpath `+fp+`/>`)
	if !strings.Contains(got, "<process><restarts>3</restarts></process>") || strings.Contains(got, "buffers") {
		t.Error(got)
	}
}
