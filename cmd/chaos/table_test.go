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
