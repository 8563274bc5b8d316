package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTable_EveryTryIsARecoveryOrALoss(t *testing.T) {
	results := []*result{
		{fault: "kill", stack: "development", failed: "killed", recovery: 10 * time.Second},
		{fault: "kill", stack: "development", failed: "killed", recovery: 20 * time.Second, pending: []string{"creating …"}},
		{fault: "kill", stack: "development", failed: "killed", broken: []string{"no orphan: …"}},
		{fault: "kill", stack: "production"},
		{fault: "full", stack: "production", failed: "no space | left", recovery: 4 * time.Second},
	}
	assert.Equal(t, `| fault | delivery | tries | recovered: the same update | recovered: the next one | which took | left a warning | losses |
| --- | --- | --- | --- | --- | --- | --- | --- |
| kill | direct | 3 | 0 | 2 | 15 s | 1 | 1 |
| kill | flux | 1 | 1 | 0 |  | 0 | 0 |
| full | flux | 1 | 0 | 1 | 4 s | 0 | 0 |
| **all** |  | 5 | 1 | 3 |  | 1 | 1 |
`, table(results))
	assert.Equal(t, "| fault | delivery | the disturbed update said |\n| --- | --- | --- |\n| full | flux | `no space \\| left` |\n", errorsTable(results))
}

func TestErrorsTable_HasNothingOfOneMachine(t *testing.T) {
	var results []*result
	for _, one := range []string{"/home/me/a/.rehearsal/chaos/development/state/.pulumi/stacks/p/s.json.18ec3c83bbfd87a4.tmp", "/tmp/.pulumi/stacks/p/s.json.00ec3c83bbfd87a4.tmp"} {
		results = append(results, &result{fault: "full", stack: "development", failed: "write " + one + ": no space left on device"})
	}
	for _, one := range []string{"49468->127.0.0.1:27242", "1->127.0.0.1:2"} {
		results = append(results, &result{fault: "api", stack: "development", failed: `Patch "https://127.0.0.1:20826/a/b?fieldManager=x&force=true": read tcp 127.0.0.1:` + one + ": reset"})
	}
	assert.Equal(t, "| fault | delivery | the disturbed update said |\n| --- | --- | --- |\n"+
		"| full | direct | `write …/.pulumi/stacks/p/s.json.….tmp: no space left on device` |\n"+
		"| api | direct | `Patch \"https://127.0.0.1:…/a/b\": read tcp 127.0.0.1:…->127.0.0.1:…: reset` |\n", errorsTable(results))
}
