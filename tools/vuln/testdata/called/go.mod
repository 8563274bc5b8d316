module example.net/called

go 1.26.0
