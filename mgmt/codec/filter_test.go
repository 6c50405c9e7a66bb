package codec_test

import (
	"strings"
	"testing"

	"vrouter/mgmt/codec"
	"vrouter/mgmt/data"
)

func filter(t testing.TB, f string) *codec.Filter {
	c, err := codec.ParseFilter(load(t), []byte(`<filter>`+f+`</filter>`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFilter(t *testing.T) {
	s := load(t)
	a, _ := codec.Edit(s, data.New(s), interfaces(20), data.Merge)
	w := codec.Writer{Schema: s}
	get := func(f string) string { return string(w.AppendFiltered(nil, a, filter(t, f))) }
	if o := get(wrap(`<interface><name>eth7</name></interface>`)); strings.Count(o, "<interface>") != 1 || !strings.Contains(o, "10.0.0.7") {
		t.Fatal(o)
	}
	if o := get(wrap(`<interface><name/></interface>`)); strings.Count(o, "<name>") != 20 || strings.Contains(o, "10.0") {
		t.Fatal(o)
	}
	if o := get(wrap(`<interface><enabled>false</enabled></interface>`)); o != "" {
		t.Fatal(o)
	}
	if o := get(`<interfaces/>`); strings.Count(o, "<interface>") != 20 {
		t.Fatal(o)
	}
	if get(``) != "" || get(`<nope xmlns="urn:z"/>`) != "" {
		t.Fatal("empty filter")
	}
}
