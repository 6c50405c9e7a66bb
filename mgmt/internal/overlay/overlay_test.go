package overlay

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is seen through an overlay is what plain maps would have, nothing of it
// is in the base before Apply, and all of it afterwards; written straight
// through, it is there at once.
func TestAgainstPlainMaps(t *testing.T) {
	for _, direct := range []bool{false, true} {
		r := rand.New(rand.NewPCG(1, 2))
		base, sets := map[int]int{}, map[int]map[int]struct{}{}
		want, wantSets := map[int]int{}, map[int]map[int]struct{}{}
		for range 200 {
			baseWas, setsWas := maps.Clone(base), clone(sets)
			table, set := NewTable(base, direct, 0), NewSets(sets, direct)
			for range r.IntN(20) {
				k, v := r.IntN(8), r.IntN(8)
				switch r.IntN(4) {
				case 0:
					table.Put(k, v)
					want[k] = v
				case 1:
					table.Delete(k)
					delete(want, k)
				case 2:
					set.Change(k, v, true)
					if wantSets[k] == nil {
						wantSets[k] = map[int]struct{}{}
					}
					wantSets[k][v] = struct{}{}
				default:
					set.Change(k, v, false)
					if delete(wantSets[k], v); len(wantSets[k]) == 0 {
						delete(wantSets, k)
					}
				}
			}
			for k := range 8 {
				v, ok := table.Get(k)
				if w, in := want[k]; ok != in || v != w {
					t.Fatalf("Get(%d) = %d %t, want %d %t", k, v, ok, w, in)
				}
				m := set.Members(k)
				slices.Sort(m)
				if w := slices.Sorted(maps.Keys(wantSets[k])); !slices.Equal(m, w) {
					t.Fatalf("Members(%d) = %v, want %v", k, m, w)
				}
			}
			seen := map[int]int{}
			table.Each(func(k, v int) { seen[k] = v })
			if !maps.Equal(seen, want) {
				t.Fatalf("Each gave %v, want %v", seen, want)
			}
			if !direct {
				if !maps.Equal(base, baseWas) || !equal(sets, setsWas) {
					t.Fatal("the base changed before Apply")
				}
				if r.IntN(4) == 0 { // given up
					want, wantSets = baseWas, setsWas
					continue
				}
			}
			table.Apply()
			set.Apply()
			if !maps.Equal(base, want) || !equal(sets, wantSets) {
				t.Fatalf("after Apply: %v %v, want %v %v", base, sets, want, wantSets)
			}
		}
	}
}

func clone(m map[int]map[int]struct{}) map[int]map[int]struct{} {
	c := map[int]map[int]struct{}{}
	for k, v := range m {
		c[k] = maps.Clone(v)
	}
	return c
}

func equal(a, b map[int]map[int]struct{}) bool {
	return maps.EqualFunc(a, b, func(x, y map[int]struct{}) bool { return maps.Equal(x, y) })
}
