"""The refusal of model repositories from before `aigid_pairs` prepared pairs itself.

Their model `preprocess` imports this module.
"""

from aigid.errors import ContractError

raise ContractError(
    "an earlier aigid built this model repository: build it again with aigid build, or serve it "
    "with the aigid that built it"
)
