package main

import "testing"

func TestTheSeedsStructsReadTheGoldenEvents(t *testing.T) {
	if err := decodeGolden("../../../services/events/golden"); err != nil {
		t.Fatal(err)
	}
}
