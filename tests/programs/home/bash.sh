#!/usr/bin/env bash
vim -Nu NONE -n notes
echo the editor ended
